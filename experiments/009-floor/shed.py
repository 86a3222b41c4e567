"""A budget that halves and comes back while three lines of flex 0, 1 and 3 run.

python experiments/009-floor/shed.py [--root DIR] [--watts 28]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

from workshop import FloorUnderTest

OVERRIDES = ("task=cartpole_swingup", "total_steps=20000000", "runtime.video_s=0", "tracking=jsonl")


def main() -> None:
    """Run the trial and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--watts", type=float, default=28.0)
    arguments.add_argument("--low-s", type=float, default=30.0, help="time at half the budget [s]")
    arguments.add_argument("--after-s", type=float, default=100.0, help="time to watch after it [s]")
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="floor-"))
    floor = FloorUnderTest(root / "floor")
    by_flex = {
        flex: floor.submit(*OVERRIDES, f"seed={flex}", "--flex", str(flex), "--cores", "0.66")[0]
        for flex in (0, 1, 3)
    }
    is_apart = floor.start_apart("--watts", str(given.watts))
    for line in by_flex.values():
        floor.wait_for(line, "running")
    time.sleep(15.0)

    halved_at = time.time()
    floor.call("budget", "set", str(given.watts / 2), "--for", f"{given.low_s:.0f}s")
    time.sleep(given.low_s + given.after_s)
    for line in by_flex.values():
        # One that has just ended refuses.
        with contextlib.suppress(subprocess.CalledProcessError):
            floor.call("cancel", str(line))
    floor.wait(300)
    found = results(floor, by_flex, halved_at=halved_at, low_s=given.low_s)
    print(json.dumps({"group_of_its_own": is_apart, **found}, indent=1))


def results(
    floor: FloorUnderTest, by_flex: dict[int, int], *, halved_at: float, low_s: float
) -> dict[str, object]:
    """Return what happened to each line, and how the power followed the budget."""
    from factory.floor import compliance
    from factory.floor.history import power_samples, spans
    from factory.floor.store import Store

    with Store(floor.root) as store:
        events = store.events()
        samples = power_samples(store.samples(since=halved_at - 15.0))
    during = [sample for sample in samples if halved_at <= sample.t_s < halved_at + low_s]
    over = [sample.t_s - halved_at for sample in during if sample.power_w > sample.limit_w]
    resumed = [
        span.start - halved_at - low_s
        for span in spans(events, now=time.time())
        if span.state == "running" and span.start > halved_at + low_s and span.line in by_flex.values()
    ]
    return {
        "paused": {
            flex: [
                f"{span.start - halved_at:.1f} s to {span.end - halved_at:.1f} s"
                for span in spans(events, now=time.time())
                if span.line == line and span.state == "paused"
            ]
            for flex, line in by_flex.items()
        },
        "last_over_budget_s": max(over, default=0.0),
        "resumed_after_s": resumed,
        "violation_ws": compliance.violation_ws(samples),
        "max_excess_w": compliance.max_excess_w(samples),
        "report": json.loads(floor.call("report", "--json")),
    }


if __name__ == "__main__":
    main()
