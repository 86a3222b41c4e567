"""Two lines at once: their joules and the rest are the node's, and their CPU seconds are the kernel's.

python experiments/009-floor/joules.py [--steps 200_000] [--root DIR]

First two trainings with `energy.scope=process` run side by side while one meter of the node and the books of
the floor divide its energy, every second; one is paused for some seconds, and the books are stored and read
back each time. Then two trainings with the default scope run side by side, as started by hand, and what both
claim is held against the node's meter. One JSON object is printed, and the exit status is 1 if a promise is
broken.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import fsum
from pathlib import Path
from typing import Any

from factory.energy.process_tree import ProcessTable, ProcessTree
from factory.floor.books import Books, LineShare
from factory.floor.node_meter import NodeMeter
from factory.runtime import hardware, provenance
from factory.runtime.decoding import decode

TICK_S = 1.0
PAUSE = (5, 10)
"""Ticks between which the second line is paused."""


@dataclass
class Run:
    """A training in a process of its own."""

    process: subprocess.Popen[bytes]
    tree: ProcessTree
    folder: Path
    counted_s: float = 0.0
    """CPU time by the tree."""
    kernel_s: float = 0.0
    """CPU time by `wait4`."""

    def has_ended(self) -> bool:
        """Tell whether the process has ended; it is not waited for yet: its last count can still be read."""
        found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def wait(self) -> None:
        """Take the kernel's count."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.kernel_s = usage.ru_utime + usage.ru_stime

    def claim(self) -> dict[str, Any]:
        """Return the joules that the training reports of itself."""
        (path,) = self.folder.rglob("summary.json")
        summary = json.loads(path.read_text())
        keys = ("energy/total_j", "energy/total_j_lo", "energy/total_j_hi")
        claimed = {key.removeprefix("energy/"): summary["metrics"][key] for key in keys}
        tags = {key: value for key, value in summary["tags"].items() if key.startswith("energy.")}
        return {**claimed, "tags": tags}


def main() -> int:
    """Run both parts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--root", type=Path, default=None)
    given = parser.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="joules-"))
    results = {
        **provenance.git_tags(),
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        "floor": by_books(root / "process", given.steps),
        "by hand": by_claims(root / "allocation", given.steps),
    }
    print(json.dumps(results, indent=1))
    is_kept = (
        results["floor"]["largest_gap"] <= 1e-9
        and all(abs(line["cpu_error"]) <= 0.01 for line in results["floor"]["lines"])
        and results["by hand"]["claimed_j"] <= results["by hand"]["node_j"]
    )
    return int(not is_kept)


def by_books(root: Path, steps: int) -> dict[str, Any]:
    """Divide the node's energy between two lines and the rest, tick by tick."""
    meter = NodeMeter.open()
    books = Books().tick(meter.read(), {})
    table = ProcessTable()
    runs = {number: start(root, number, steps, "process", table) for number in (1, 2)}
    running = dict(runs)
    gaps = []
    tick = 0
    while running:
        time.sleep(TICK_S)
        tick += 1
        if tick in PAUSE and 2 in running:
            number = signal.SIGSTOP if tick == PAUSE[0] else signal.SIGCONT
            os.kill(runs[2].process.pid, number)
        ended = [number for number, run in running.items() if run.has_ended()]
        shares = {}
        for number, run in running.items():
            run.counted_s = run.tree.cpu_s()
            shares[number] = LineShare(cpu_s_total=run.counted_s, cores_allocated=1.0, attempt=1)
        books = decode(
            json.loads(json.dumps(books.tick(meter.read(), shares).to_plain())), Books, name="books"
        )
        gaps.append(
            abs(fsum([books.rest_j, *(line.joules for line in books.lines.values())]) / books.node_j - 1.0)
        )
        for number in ended:
            running.pop(number).wait()
    meter.close()
    return {
        "tier": books.last.tier if books.last else "",
        "ticks": tick,
        "node_j": books.node_j,
        "rest_j": books.rest_j,
        "largest_gap": max(gaps),
        "lines": [
            {
                "joules": books.lines[number].joules,
                "cpu_s": run.counted_s,
                "kernel_s": run.kernel_s,
                "cpu_error": run.counted_s / run.kernel_s - 1.0,
                "status": run.process.returncode,
                "claims": run.claim(),
            }
            for number, run in runs.items()
        ],
    }


def by_claims(root: Path, steps: int) -> dict[str, Any]:
    """Hold the claims of two runs that know nothing of each other against the node's meter."""
    meter = NodeMeter.open()
    table = ProcessTable()
    runs = [start(root, number, steps, "allocation", table) for number in (1, 2)]
    for run in runs:
        run.wait()
    reading = meter.read()
    meter.close()
    claims = [run.claim() for run in runs]
    return {
        "node_j": reading.joules_total,
        "claimed_j": sum(claim["total_j"] for claim in claims),
        "claims": claims,
    }


def start(root: Path, number: int, steps: int, scope: str, table: ProcessTable) -> Run:
    """Start a training."""
    folder = root / str(number)
    folder.mkdir(parents=True)
    command = [
        *(
            sys.executable,
            "-m",
            "factory.train",
            "task=cartpole_swingup",
            "num_envs=64",
            f"total_steps={steps}",
        ),
        *(
            "tracking=null",
            "runtime.torch_threads=1",
            "runtime.video_s=0",
            f"seed={number}",
            f"energy.scope={scope}",
        ),
        f"output_root={folder}",
    ]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    return Run(process, ProcessTree(process.pid, table=table), folder)


if __name__ == "__main__":
    sys.exit(main())
