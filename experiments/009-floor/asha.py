"""ASHA over nine configurations of cart-pole against their whole grid; once more with kills and a power loss.

python experiments/009-floor/asha.py [--root DIR] [--seed N] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from workshop import FloorUnderTest

JOB = (
    "task=cartpole_swingup",
    "total_steps=810000",
    "learner.schedule=fixed",
    "runtime.torch_threads=1",
    "runtime.video_s=0",
    "tracking=jsonl",
)
RANGES = ("learner.learning_rate=2e-5,2e-4,2e-3", "learner.gamma=0.8,0.95,0.98")


def main() -> None:
    """Run the three sweeps and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, default=None)
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="asha-"))

    disturbed = _interrupted(root / "interrupted", random.Random(given.seed))
    asha = _sweep(root / "asha", "asha")
    grid = _sweep(root / "grid", "grid")
    results = {
        "env_steps": {"asha": asha["env_steps"], "grid": grid["env_steps"]},
        "share_of_grid": asha["env_steps"] / grid["env_steps"],
        "best": {"asha": _best(asha), "grid": _best(grid), "interrupted": _best(disturbed)},
        "is_best_of_grid": _best(asha) == _best(grid),
        "same_decisions_after_kills": _decisions(asha) == _decisions(disturbed),
        "at_the_end": {" ".join(trial["overrides"]): trial["values"][-1] for trial in grid["trials"]},
        "at_the_rungs": {" ".join(trial["overrides"]): trial["values"] for trial in asha["trials"]},
        "rungs": asha["rungs"],
        "attempts": {"asha": asha["attempts"], "interrupted": disturbed["attempts"]},
    }
    text = json.dumps(results, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    if given.root is None:
        shutil.rmtree(root)


def _sweep(folder: Path, method: str) -> dict[str, Any]:
    """Run a sweep without disturbance and return its state."""
    floor = FloorUnderTest(folder)
    floor.call("sweep", method, *JOB, *RANGES)
    floor.start()
    floor.wait(1200)
    return _state(floor)


def _interrupted(folder: Path, draw: random.Random) -> dict[str, Any]:
    """Run ASHA, kill the floor twice and everything once, and return the state at its end."""
    floor = FloorUnderTest(folder)
    floor.call("sweep", "asha", *JOB, *RANGES)
    for harm in (floor.kill, floor.lose_power, floor.kill):
        floor.start()
        time.sleep(draw.uniform(8.0, 20.0))
        harm()
        print(f"{harm.__name__}; {len(floor.sessions())} processes of lines live on", flush=True)
    floor.start()
    floor.wait(1200)
    return _state(floor)


def _state(floor: FloorUnderTest) -> dict[str, Any]:
    (state,) = json.loads(floor.call("sweep", "status", "--json"))
    return state | {"attempts": sum(line["attempts"] for line in floor.status()["lines"])}


def _best(state: dict[str, Any]) -> str:
    (number,) = state["best"]
    return " ".join(state["trials"][number]["overrides"])


def _decisions(state: dict[str, Any]) -> list[Any]:
    """Return, for every trial, the metrics it was judged by and how far it was let go."""
    keys = ("overrides", "state", "env_steps", "values")
    return [[trial[key] for key in keys] for trial in state["trials"]]


if __name__ == "__main__":
    main()
