"""Ten pre-emptions of a line at random moments: equal weights, and the time that each one costs.

python experiments/009-floor/preemptions.py [--root DIR] [--number 10]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from workshop import FloorUnderTest, differences, undisturbed

OVERRIDES = ("task=cartpole_swingup", "total_steps=6000000", "runtime.video_s=0", "tracking=jsonl")


def main() -> None:
    """Run the trial and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--number", type=int, default=10)
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="floor-"))
    draw = random.Random(0)
    floor = FloorUnderTest(root / "floor")
    (line,) = floor.submit(*OVERRIDES)
    floor.start()
    for number in range(given.number):
        floor.wait_for(line, "running")
        time.sleep(draw.uniform(0.0, 2.0))
        floor.call("preempt", str(line))
        print(f"pre-emption {number + 1} at {floor.line(line)['progress']:.0%}")
    floor.wait(1800)
    print(
        json.dumps(
            {
                "state": floor.line(line)["state"],
                "attempts": floor.line(line)["attempts"],
                "different": differences(
                    undisturbed(root / "alone", OVERRIDES), Path(floor.line(line)["run_dir"])
                ),
                **overheads(floor, line),
            },
            indent=1,
        )
    )


def overheads(floor: FloorUnderTest, line: int) -> dict[str, float | list[float]]:
    """Return the time from each order to the first iteration of the next attempt, without the queue [s]."""
    from factory.floor.history import spans
    from factory.floor.store import Store

    with Store(floor.root) as store:
        found = spans(store.events(line=line), now=time.time())
    costs: list[float] = []
    for before, after in itertools.pairwise(found):
        if before.state == "preempting":
            start = next(span for span in found[found.index(after) :] if span.state == "starting")
            costs.append(before.duration_s + start.duration_s)
    return {"overheads_s": costs, "median_s": statistics.median(costs) if costs else 0.0}


if __name__ == "__main__":
    main()
