"""Train every Gymnasium preset with several seeds: `python experiments/003-presets/run.py`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from factory.runtime import hardware, provenance

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from results_page import insert_results  # noqa: E402

LEVELS = {
    "inverted_pendulum": (1000.0, 1),
    "reacher": (-4.0, 6),
    "hopper": (3100.0, 12),
    "half_cheetah": (5500.0, 20),
    "walker2d": (4500.0, 22),
    "ant": (4400.0, 45),
    "half_cheetah policy.precision=bfloat16": (5500.0, 20),
}
"""By preset and what is set besides: the return wanted, and within how many minutes of training on two cores.
"""
Run = dict[str, Any]


def main() -> None:
    """Train what is missing, then write results and table."""
    args = arguments()
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"runs": []}
    results |= {"command": shlex.join(["python", f"experiments/{HERE.name}/run.py", *sys.argv[1:]])}
    results |= {"machine": hardware.describe(), "versions": provenance.versions()}
    done = {(run["preset"], run["seed"]) for run in results["runs"]}
    jobs = [
        (name, seed) for seed in args.seeds for name in args.only if args.again or (name, seed) not in done
    ]
    cpus: SimpleQueue[set[int]] = SimpleQueue()
    for share in shares(args.parallel):
        cpus.put(share)
    with ThreadPoolExecutor(args.parallel) as pool:
        for future in as_completed([pool.submit(train, job, cpus=cpus) for job in jobs]):
            run = future.result()
            same = (run["preset"], run["seed"])
            results["runs"] = [old for old in results["runs"] if (old["preset"], old["seed"]) != same] + [run]
            path.write_text(json.dumps(results, indent=1) + "\n")
    insert_results(table(results), HERE / "README.md")
    print(table(results))


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=LEVELS, default=list(LEVELS), metavar="PRESET", help="presets"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED", help="seeds")
    parser.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="runs at a time, CPUs shared out equally"
    )
    parser.add_argument("--again", action="store_true", help="also what is in results.json")
    return parser.parse_args()


def shares(count: int) -> list[set[int]]:
    """Return `count` equal sets of this process's CPUs."""
    available = sorted(os.sched_getaffinity(0))
    size = max(1, len(available) // count)
    return [set(available[index * size : (index + 1) * size]) for index in range(count)]


def train(job: tuple[str, int], *, cpus: SimpleQueue[set[int]]) -> Run:
    """Train and evaluate one preset with one seed, on a share of the CPUs."""
    name, seed = job
    share = cpus.get()
    bare = ["tracking=null", "runtime.video_s=0", "runtime.eval_episodes=100", "runtime.register_model=false"]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "factory.train",
            *f"experiment={name}".split(),
            f"seed={seed}",
            *bare,
        ]
        with (Path(folder) / "console.txt").open("w") as console:
            process = subprocess.Popen(
                [*command, f"hydra.run.dir={folder}"], cwd=HERE.parents[1], stdout=console
            )
            os.sched_setaffinity(process.pid, share)
            if process.wait() != 0:
                raise SystemExit(f"error: {shlex.join(command)} ended with status {process.returncode}")
        summary = json.loads((Path(folder) / "summary.json").read_text())
    cpus.put(share)
    metrics = summary["metrics"]
    figures = {
        "return_mean": metrics["eval/return_mean"],
        "return_std": metrics["eval/return_std"],
        "wall_s": metrics["time/wall_s"],
        "steps": metrics["factory/env_steps"],
        "physics_share": metrics["time/physics_s"] / metrics["time/wall_s"],
        "cpu_s_per_token": metrics["factory/cpu_s_per_token"],
    }
    line = f"{name} seed {seed}: {figures['return_mean']:.1f} after {figures['wall_s']:.0f} s"
    print(line, file=sys.stderr, flush=True)
    return {
        "preset": name,
        "seed": seed,
        "cpus": len(share),
        **figures,
        "commit": provenance.git_tags()["git.commit"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| preset | steps | return of the mean action, 100 episodes, by seed | median | wanted | slowest | "
        "CPUs |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (level, minutes) in LEVELS.items():
        runs = sorted((run for run in results["runs"] if run["preset"] == name), key=lambda run: run["seed"])
        if not runs:
            continue
        returns = [run["return_mean"] for run in runs]
        slowest = max(runs, key=lambda run: run["wall_s"])
        lines.append(
            f"| {name} | {runs[0]['steps'] / 1e6:.1f} M | {', '.join(f'{value:.5g}' for value in returns)} "
            f"| {statistics.median(returns):.5g} | {level:g} in {minutes} min "
            f"| {slowest['wall_s'] / 60:.1f} min | {slowest['cpus']} |"
        )
    commits = ", ".join(sorted({f"`{run['commit'][:7]}`" for run in results["runs"]}))
    lines += ["", f"`{results['command']}`, {results['machine']['cpu']}, commits {commits}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
