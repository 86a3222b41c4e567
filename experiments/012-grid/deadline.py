"""A background line with a deadline under a price that stays high, once the speed of its settings is known.

PYTHONPATH=. python experiments/012-grid/deadline.py [--root DIR]

A line of flex 1 runs until the floor knows its speed. Then a line of flex 3 with the same settings and a
deadline in four minutes is handed in, under a rule whose limit the price never falls below.
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
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "009-floor"))
from day import moment  # noqa: E402
from workshop import FloorUnderTest  # noqa: E402

from factory.floor.curves import CURVES  # noqa: E402
from factory.floor.store import Store  # noqa: E402

LINE = (
    "task=cartpole_swingup",
    "num_envs=64",
    "tracking=jsonl",
    "runtime.torch_threads=1",
    "runtime.video_s=0",
    "runtime.register_model=false",
)
PATIENCE_S = 240.0
LEAST_OBSERVATIONS = 4
"""Windows of ten seconds after which the floor believes the speed."""


def main() -> None:
    """Run both lines and print the events of the second one, relative to its deadline."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="deadline-"))
    root.mkdir(parents=True, exist_ok=True)
    floor = FloorUnderTest(root / "floor")
    floor.submit(*LINE, "total_steps=3_000_000", "seed=0", "--flex", "1")
    price = root / "price.csv"
    quarters = [f"{moment(time.time() + 900.0 * (number - 1))},0.3" for number in range(8)]
    price.write_text("\n".join(["time_utc,usd_per_kwh", *quarters]) + "\n")
    floor.call("grid", "rule", "--below-price", "0.1")
    floor.call("grid", "import", str(price))
    floor.start("--cores", "2", "--operator", "off", "--forever")
    while num_observations(floor.root) < LEAST_OBSERVATIONS:
        time.sleep(3.0)
    deadline = time.time() + PATIENCE_S
    floor.submit(*LINE, "total_steps=100_000", "seed=1", "--flex", "3", "--deadline", moment(deadline))
    floor.call("cancel", "1")
    line = floor.wait_for(2, "finished", "failed", timeout_s=2.0 * PATIENCE_S)
    results: dict[str, Any] = {
        "state": line["state"],
        "patience_s": PATIENCE_S,
        "events": events(floor.root, deadline),
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[1]:.1f} at the end",
    }
    floor.lose_power()
    (HERE / "deadline.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def num_observations(root: Path) -> int:
    """Return the number of windows that the floor has learned from."""
    with Store(root) as store:
        return sum(len(curve.observations) for curve in store.get(CURVES))


def events(root: Path, deadline: float) -> list[list[Any]]:
    """Return time [s after the deadline], kind and state of the events of the second line."""
    with Store(root) as store:
        found = store.events(line=2, limit=100)
    return [[round(event.at - deadline, 1), event.kind, event.details.get("to")] for event in found[::-1]]


if __name__ == "__main__":
    main()
