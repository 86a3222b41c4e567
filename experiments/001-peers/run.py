"""Measure this project and its peers on one machine, in turn: `python experiments/001-peers/run.py`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from comparisons import COMPARISONS, Comparison, choose
from installs import CHECKOUT, HERE, Install, install
from report import draw, table
from worker import Worker

from factory.runtime import hardware, provenance

sys.path.insert(0, str(HERE.parent))

from results_page import insert_results


def main() -> None:
    """Install, warm up, measure round by round, and write results, table and figure."""
    args = arguments()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    machine_now, tags = hardware.describe(), provenance.git_tags()  # before results make the checkout differ
    environment = settings(args.threads)
    workers, missing = start(args.only, args.cache, environment)
    try:
        rounds = measure(args.only, workers, missing, rounds=args.rounds, seconds=args.seconds)
        versions = {name: worker.versions() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    comparisons = [c for c in args.only if any(speed.samples(rounds) for speed in c.speeds)]
    if not comparisons:
        raise SystemExit("; ".join(missing.values()))
    content = {
        "command": command(args),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **tags,
        "machine": machine_now,
        "environment": environment,
        "settings": {"rounds": args.rounds, "seconds": args.seconds, "threads": args.threads},
        "missing": missing,
        "ratios": ratios(comparisons, rounds),
        "rounds": rounds,
        "versions": versions,
    }
    write(content, comparisons, rounds, args.out)


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=CHECKOUT / ".peers", help="folder for the peers' environments"
    )
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="NAME", help="comparisons: env, sb3, 'env Ant-v5', ..."
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often everything takes its turn")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="how long a measurement takes at least [s]"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPUs that every library may use")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="folder for results.json, figure.png and README.md"
    )
    args = parser.parse_args()
    args.cache = args.cache.resolve()
    try:
        args.only = choose(args.only)
    except ValueError as error:
        parser.error(str(error))
    return args


def command(args: argparse.Namespace) -> str:
    """Return the command line without the folders, which say nothing about the figures."""
    only = (
        [] if args.only == list(COMPARISONS) else ["--only", *(comparison.name for comparison in args.only)]
    )
    numbers = ["--rounds", str(args.rounds), "--seconds", str(args.seconds), "--threads", str(args.threads)]
    return shlex.join(["python", "experiments/001-peers/run.py", *only, *numbers])


def settings(threads: int) -> dict[str, str]:
    """Return the environment variables that all workers get: equal threads, and idle ones that sleep."""
    number = str(threads)
    return {
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "3000",
    }


def start(
    comparisons: Sequence[Comparison], cache: Path, environment: dict[str, str]
) -> tuple[dict[str, Worker], dict[str, str]]:
    """Return the workers that the comparisons need, and why others cannot be had."""
    missing: dict[str, str] = {}
    installs: dict[str, Install] = {}
    for name in dict.fromkeys(speed.worker for comparison in comparisons for speed in comparison.speeds):
        try:
            installs[name] = install(name, cache)
        except ValueError as error:
            missing[name] = str(error)
    return {name: Worker(name, found, environment) for name, found in installs.items()}, missing


def measure(
    comparisons: Sequence[Comparison],
    workers: dict[str, Worker],
    missing: dict[str, str],
    *,
    rounds: int,
    seconds: float,
) -> list[dict[str, dict[str, float]]]:
    """Return the figures of every round.

    The first one warms up and is thrown away, every other one runs backwards.
    """
    cases = list(dict.fromkeys((s.key, s.worker, s.case) for c in comparisons for s in c.speeds))
    found: list[dict[str, dict[str, float]]] = []
    for index in range(rounds + 1):
        figures: dict[str, dict[str, float]] = {}
        for key, name, case in reversed(cases) if index % 2 else cases:
            if name in missing:
                continue
            try:
                figures[key] = workers[name].measure(case, seconds if index else 0.0)
            except ValueError as error:
                missing[name] = str(error)
            else:
                tell(index, key, figures[key])
        found.append(figures)
    return found[1:]


def tell(index: int, key: str, figures: dict[str, float]) -> None:
    """Say on stderr how it goes."""
    name = f"round {index}" if index else "warm-up"
    print(
        f"{name}  {key:<45} " + "  ".join(f"{k} {v:.4g}" for k, v in figures.items()),
        file=sys.stderr,
        flush=True,
    )


def ratios(
    comparisons: Sequence[Comparison], rounds: list[dict[str, dict[str, float]]]
) -> list[dict[str, Any]]:
    """Return every ratio with its goal and samples, as plain values."""
    return [
        {
            "comparison": c.name,
            "ratio": r.label,
            "goal": r.goal,
            "median": statistics.median(samples),
            "samples": samples,
        }
        for c in comparisons
        for r in c.ratios
        if (samples := r.samples(rounds))
    ]


def write(content: dict[str, Any], comparisons: Sequence[Comparison], rounds: list[Any], out: Path) -> None:
    """Write the results, the table into a README that is there, and the figure; print the table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    cpu, date = content["machine"]["cpu"], content["date"][:10]
    elsewhere = statistics.median(f["busy_elsewhere"] for found in rounds for f in found.values())
    note = (
        f"{cpu}, {content['settings']['threads']} CPUs, {date}, commit {content['git.commit'][:7]}. "
        f"Medians of {len(rounds)} rounds; {elsewhere:.2f} cores were busy with anything else."
    )
    text = f"{note}\n\n{table(comparisons, rounds)}"
    if content["missing"]:
        text += "\n\nNot run: " + "; ".join(content["missing"].values())
    if (out / "README.md").is_file():
        insert_results(text, out / "README.md")
    draw(comparisons, rounds, out / "figure.png", note=note)
    print(text)


if __name__ == "__main__":
    main()
