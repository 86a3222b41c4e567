"""Twelve mixed lines on two Ray nodes of one core each; a node is killed while its line runs.

python experiments/009-floor/ray.py
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from twelve_lines import COMMON, MIX
from workshop import FloorUnderTest, differences, undisturbed

sys.path.append(str(Path(__file__).parents[2] / "tests" / "helpers"))
from ray_nodes import TwoNodes


def main() -> None:
    """Run the trial and print one JSON object."""
    root = Path(tempfile.mkdtemp(prefix="floor-"))
    floor = FloorUnderTest(root / "floor")
    nodes = TwoNodes(root)
    os.environ.update(nodes.environment)
    try:
        ids = [number for overrides in MIX for number in floor.submit(*overrides, *COMMON)]
        floor.start("--engine", "ray", "--address", nodes.address)
        lost = _kill_second_node(floor, nodes)
        nodes.add_node()
        status = floor.wait(1200)
    finally:
        nodes.stop()
    state = floor.status()
    compared = [ids[0], *lost]
    results = {
        "exit_status": status,
        "states": Counter(line["state"] for line in state["lines"]),
        "on_the_dead_node": lost,
        "attempts": {line["id"]: line["attempts"] for line in state["lines"]},
        "different": {number: _different(floor, root / "undisturbed", ids, number) for number in compared},
        "left_over": [process.cmdline() for process in floor.sessions()],
        "events": floor.call("audit", "verify").strip(),
    }
    print(json.dumps(results, indent=1))
    shutil.rmtree(root)


def _kill_second_node(floor: FloorUnderTest, nodes: TwoNodes) -> list[int]:
    """Kill the node as soon as a line on it has a checkpoint, and return the lines that it ran."""
    while True:
        time.sleep(1.0)
        for line in floor.status()["lines"]:
            checkpoint = Path(line["run_dir"] or "none") / "checkpoints" / "last"
            if line["state"] != "running" or not checkpoint.exists():
                continue
            for process in floor.trainings(line["id"]):
                if _is_on(process, nodes.second.pid):
                    nodes.kill_second()
                    return [line["id"]]


def _is_on(process: psutil.Process, node: int) -> bool:
    """Return whether a process descends from a node, given as the leader of its session."""
    return any(os.getsid(parent.pid) == node for parent in process.parents())


def _different(floor: FloorUnderTest, folder: Path, ids: list[int], number: int) -> list[str]:
    overrides = MIX[ids.index(number)]
    alone = undisturbed(folder / str(number), (*overrides, *COMMON))
    return differences(alone, Path(floor.line(number)["run_dir"]))


if __name__ == "__main__":
    main()
