"""Measure this checkout against another one, in turn: `python experiments/001-peers/against.py ../other`.

The other checkout needs an environment of its own at `.venv`. Both serve the same cases (`peers/ours.py`),
each in a process that sleeps while the other measures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from installs import CHECKOUT, Install
from run import settings
from worker import Worker

CASES = ("step HalfCheetah-v5", "step Ant-v5", "train HalfCheetah-v5 [64, 64]", "train Go2 in own scene")
SIDES = ("this", "other")
Ratios = dict[str, float]


def main() -> None:
    """Print one line of JSON a case: ratios of this checkout over the other."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("other", type=Path, help="root of the other checkout")
    arguments.add_argument("--processes", type=int, default=5, help="pairs of processes, one after the other")
    arguments.add_argument("--rounds", type=int, default=12, help="measurements of each process")
    arguments.add_argument("--seconds", type=float, default=0.5, help="least time of a measurement [s]")
    arguments.add_argument("--threads", type=int, default=2, help="CPUs that both may use")
    arguments.add_argument("--only", nargs="+", default=CASES, choices=CASES, metavar="CASE")
    given = arguments.parse_args()
    checkouts = dict(zip(SIDES, (CHECKOUT, given.other.absolute()), strict=True))
    for case in given.only:
        # Where a process happens to lie in memory makes it some percent faster or slower for its whole life,
        # so there are several pairs, each with a median of its own.
        pairs: list[Ratios] = []
        for _ in range(given.processes):
            with tempfile.TemporaryDirectory() as scratch:
                workers = {
                    side: Worker("ours", _install(checkout, Path(scratch) / side), settings(given.threads))
                    for side, checkout in checkouts.items()
                }
                pairs.append(compare(workers, case, rounds=given.rounds, seconds=given.seconds))
                for worker in workers.values():
                    worker.close()
        found = {name: _summary([pair[name] for pair in pairs]) for name in pairs[0]}
        print(json.dumps({"case": case, **found}), flush=True)


def _install(checkout: Path, folder: Path) -> Install:
    folder.mkdir()
    python = Path(sys.executable)
    if checkout != CHECKOUT:
        python = checkout / ".venv" / "bin" / "python"
    # Both use the measuring code of their own checkout: module names may differ between commits.
    return Install(python=python, folder=folder, paths=(checkout / "experiments" / "001-peers", checkout))


def compare(workers: dict[str, Worker], case: str, *, rounds: int, seconds: float) -> Ratios:
    """Return the median ratios of a case for one pair of processes."""
    speeds: list[float] = []
    # What a step takes beside the engine; the engine's own noise cancels.
    shares: list[float] = []
    busy: list[float] = []
    for worker in workers.values():
        worker.measure(case, seconds)
    for turn in range(rounds):
        # The one that goes first alternates, so that neither always follows a rest.
        order = SIDES if turn % 2 else SIDES[::-1]
        found = {side: workers[side].measure(case, seconds) for side in order}
        this, other = found["this"], found["other"]
        speeds.append(this["steps_per_s"] / other["steps_per_s"])
        engine = this["engine_steps_per_s"] / other["engine_steps_per_s"]
        shares.append(speeds[-1] / engine)
        busy += [this["busy_elsewhere"], other["busy_elsewhere"]]
    medians = {"steps_per_s": speeds, "share_of_engine": shares, "cores_busy_elsewhere": busy}
    return {name: statistics.median(values) for name, values in medians.items()}


def _summary(values: list[float]) -> dict[str, float]:
    """Return the median over pairs of processes, with the smallest and the greatest."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


if __name__ == "__main__":
    main()
