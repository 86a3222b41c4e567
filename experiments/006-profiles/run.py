"""Train with every power profile, interleaved: `python experiments/006-profiles/run.py`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory import options
from factory.power import calibrate
from factory.power.calibrate import Sample
from factory.runtime import hardware, provenance

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from results_page import insert_results  # noqa: E402

TASKS = {"cartpole_swingup": 24, "quadruped_velocity": 5}
"""Iterations of a training: some seconds of work each."""


def main() -> None:
    """Calibrate all profiles on both tasks and write results and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    args = parser.parse_args()
    options.register()
    results: dict[str, Any] = {
        "command": shlex.join(["python", f"experiments/{HERE.name}/run.py", *sys.argv[1:]]),
        "machine": hardware.describe(),
        "profiles": [],
        "versions": provenance.versions(),
        **provenance.git_tags(),
    }
    for task in args.only:
        entries = calibrate.calibrate(
            [f"task={task}"],
            calibrate.names(),
            rounds=args.rounds,
            iterations=TASKS[task],
            on_sample=show,
        )
        results["profiles"] += [asdict(entry) | {"is_kept": entry.is_kept} for entry in entries]
        results["load_at_the_end"] = hardware.load()
        results["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        # After every task, since the second one takes long.
        (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        insert_results(table(results), HERE / "README.md")
    print(table(results))


def show(index: int, name: str, sample: Sample) -> None:
    """Print a training as it ends."""
    figures = f"{sample.tokens_per_s:.0f} tokens/s, {sample.watts:.2f} W, load {hardware.load():.1f}"
    print(f"round {index}: {name}: {figures}", file=sys.stderr, flush=True)


def table(results: dict[str, Any]) -> str:
    """Return the medians and ratios as Markdown."""
    lines = [
        "| task | profile | tokens/s | ratio | W (tier) | ratio | mJ/token | ratio | CPU us/token | promise "
        "| weights |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["profiles"]:
        spread = f"{row['speed_ratio']:.2f} ({row['speed_lo']:.2f} to {row['speed_hi']:.2f})"
        cells = [
            row["task"],
            row["profile"],
            f"{row['tokens_per_s'] / 1e3:.1f} k",
            spread,
            f"{row['watts']:.2f} ({row['tier']})",
            f"{row['watts_ratio']:.2f}",
            f"{1e3 * row['joules_per_token']:.3f}",
            f"{row['joules_ratio']:.2f}",
            f"{1e6 * row['cpu_s_per_token']:.1f}",
            "kept" if row["is_kept"] else "not kept",
            "equal" if row["has_equal_weights"] else "differ",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    machine = results["machine"]
    loads = f"{machine['load_average_1min']:.1f} at the start, {results['load_at_the_end']:.1f} at the end"
    rounds = results["profiles"][0]["rounds"]
    lines += [
        "",
        f"`{results['command']}`, {machine['cpu']}, {machine['cpus_available']} CPUs, commit "
        f"`{results['git.commit'][:7]}`, {results['date'][:10]}, medians of {rounds} rounds; load {loads}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
