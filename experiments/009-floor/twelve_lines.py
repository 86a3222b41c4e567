"""Twelve mixed lines; the floor is killed three times, a line twice, and everything once.

python experiments/009-floor/twelve_lines.py [--root DIR] [--engine local]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from pathlib import Path

from workshop import FloorUnderTest, differences, undisturbed

COMMON = ("runtime.video_s=0", "tracking=jsonl", "checkpoint_every=4")
MIX = (
    ("experiment=smoke", "seed=0"),
    ("experiment=smoke", "seed=1"),
    ("experiment=smoke", "seed=2", "learner.learning_rate=1e-3"),
    ("experiment=smoke", "seed=3", "num_envs=32"),
    ("task=cartpole_swingup", "num_envs=256", "total_steps=600000", "seed=4", "runtime.eval_episodes=8"),
    ("task=cartpole_swingup", "num_envs=128", "total_steps=100000", "seed=5", "runtime.eval_episodes=8"),
    ("experiment=inverted_pendulum", "total_steps=100000", "seed=6", "runtime.eval_episodes=8"),
    ("experiment=half_cheetah", "num_envs=64", "total_steps=40000", "seed=7", "runtime.eval_episodes=8"),
    ("experiment=hopper", "num_envs=64", "total_steps=40000", "seed=8", "runtime.eval_episodes=8"),
    ("task=quadruped_velocity", "num_envs=64", "total_steps=30000", "seed=9", "runtime.eval_episodes=8"),
    ("experiment=smoke", "seed=10"),
    ("experiment=smoke", "seed=11", "runtime.torch_threads=1"),
)

KILLED = 4
"""Index of the line that is killed twice; it is the longest."""


def main() -> None:
    """Run the trial and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--engine", default="local")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="floor-"))
    floor = FloorUnderTest(root / "floor")
    draw = random.Random(given.seed)
    ids: list[int] = []
    for index, overrides in enumerate(MIX):
        flex = str(draw.randrange(4))
        # The line that will be killed runs from the beginning.
        priority = 9 if index == KILLED else draw.randrange(3)
        ids += floor.submit(*overrides, *COMMON, "--flex", flex, "--priority", str(priority))
    print(f"{len(ids)} lines on {floor.root}")

    run = ("--engine", given.engine)
    floor.start(*run)
    killed_line = ids[KILLED]
    for kill in range(3):
        time.sleep(draw.uniform(15.0, 25.0))
        if kill < 2:
            _kill_line(floor, killed_line)
        floor.kill()
        print(f"floor killed; {len(floor.sessions())} processes of lines live on")
        time.sleep(draw.uniform(1.0, 5.0))
        floor.start(*run)
    time.sleep(20.0)
    floor.lose_power()
    print(f"power lost; {len(floor.sessions())} processes live on")
    floor.start(*run)
    status = floor.wait(1800)

    state = floor.status()
    results = {
        "exit_status": status,
        "states": Counter(line["state"] for line in state["lines"]),
        "attempts": {line["id"]: line["attempts"] for line in state["lines"]},
        "different": _different(floor, root / "undisturbed", ids),
        "books": _books(state),
        "attempts_twice": _started_twice(floor.root / "floor.db"),
        "left_over": [process.cmdline() for process in floor.sessions()],
        "events": floor.call("audit", "verify").strip(),
    }
    print(json.dumps(results, indent=1))
    if given.root is None:
        shutil.rmtree(root)


def _kill_line(floor: FloorUnderTest, number: int) -> None:
    for process in floor.trainings(number):
        process.kill()
        print(f"line {number} killed")


def _different(floor: FloorUnderTest, folder: Path, ids: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for number, overrides in zip(ids, MIX, strict=True):
        alone = undisturbed(folder / str(number), (*overrides, *COMMON))
        different = differences(alone, Path(floor.line(number)["run_dir"]))
        if different:
            found[number] = different
    return found


def _books(state: dict) -> dict[str, float]:
    lines_j = math.fsum(line["joules"] for line in state["lines"])
    node_j = state["floor"]["joules"]
    rest_j = state["floor"]["unattributed_j"]
    return {
        "node_j": node_j,
        "lines_j": lines_j,
        "rest_j": rest_j,
        "waste_j": math.fsum(line["waste_j"] for line in state["lines"]),
        "relative_error": abs(lines_j + rest_j - node_j) / node_j,
    }


def _started_twice(store: Path) -> int:
    """Return how many attempts ended twice or share a number; both are bad."""
    with sqlite3.connect(store) as connection:
        rows = connection.execute("SELECT line, details FROM event WHERE kind = 'moved'").fetchall()
        starts = Counter(
            (line, json.loads(details).get("attempts"))
            for line, details in rows
            if json.loads(details)["to"] == "starting"
        )
    return sum(count - 1 for count in starts.values())


if __name__ == "__main__":
    main()
