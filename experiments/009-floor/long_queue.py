"""A thousand queued lines: time to submit them, cost of a tick, memory and CPU time of the floor.

python experiments/009-floor/long_queue.py [--root DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import psutil
from workshop import FloorUnderTest

SETTLE_S = 20.0
WATCH_S = 60.0


def main() -> None:
    """Run the trial and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="floor-"))
    floor = FloorUnderTest(root / "floor")
    started = time.monotonic()
    ids = floor.submit("experiment=smoke", "seed=range(0,1000)", "tracking=jsonl")
    submitted_s = time.monotonic() - started
    # No line fits half a core, so nothing changes while the floor is watched.
    floor.start("--cores", "0.5", "--forever")
    assert floor.process is not None
    process = psutil.Process(floor.process.pid)
    time.sleep(SETTLE_S)
    before = process.cpu_times()
    time.sleep(WATCH_S)
    after = process.cpu_times()
    started = time.monotonic()
    floor.status()
    status_s = time.monotonic() - started
    memory = process.memory_info().rss
    floor.process.terminate()
    floor.wait(60)
    print(
        json.dumps(
            {
                "lines": len(ids),
                "submit_s": submitted_s,
                "status_s": status_s,
                "cpu_share": (after.user + after.system - before.user - before.system) / WATCH_S,
                "memory_mb": memory / 1e6,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
