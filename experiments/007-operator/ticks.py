"""CPU time that the operator takes beside ten real lines.

PYTHONPATH=. python experiments/007-operator/ticks.py [--lines 10] [--seconds 130] [--root DIR]

Ten small trainings run at once on one floor; the operator observes them in mode `suggest`. Only counted CPU
time is reported, which other programs on the machine change little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "009-floor"))
from workshop import FloorUnderTest  # noqa: E402

LINE = (
    "task=cartpole_swingup",
    "num_envs=16",
    "total_steps=100_000_000",
    "tracking=jsonl",
    "runtime.torch_threads=1",
    "runtime.video_s=0",
    "runtime.register_model=false",
)


def main() -> None:
    """Run the lines for some time and print what the operator has taken."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--lines", type=int, default=10)
    arguments.add_argument("--seconds", type=float, default=130.0, help="time with all lines running")
    arguments.add_argument("--root", type=Path, default=None)
    given = arguments.parse_args()
    floor = FloorUnderTest(given.root or Path(tempfile.mkdtemp(prefix="ticks-")))
    ids = floor.submit(*LINE, f"seed={','.join(map(str, range(given.lines)))}")
    floor.start("--cores", str(given.lines), "--operator", "suggest")
    for number in ids:
        floor.wait_for(number, "running", timeout_s=900.0)
    began = time.time()
    time.sleep(given.seconds)
    hours = (time.time() - began) / 3600.0
    cost = json.loads(floor.call("ask", "operator_cost", f"hours={hours}", "--json"))["rows"][0]
    floor.lose_power()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    )
    results = {
        "lines": given.lines,
        "cost": cost,
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[1]:.1f} at the end",
    }
    (HERE / "ticks.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
