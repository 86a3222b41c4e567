"""Train as one process and as several on the same CPUs: `python experiments/005-processes/run.py`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.reporting.run_folder import read_records
from factory.runtime import hardware, provenance

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from results_page import insert_results  # noqa: E402

JOB = (
    "task=gym/half_cheetah",
    "num_envs=1024",
    "learner.num_steps=24",
    "learner.num_epochs=5",
    "learner.num_minibatches=4",
    "policy.activation=tanh",
    "tracking=null",
    "runtime.video_s=0",
    "runtime.eval_episodes=1",
    "runtime.register_model=false",
)
NETWORKS = {"64-64": ("[64,64]", 30), "512-256-128": ("[512,256,128]", 10)}
"""Hidden layers of actor and critic, and iterations of a run."""
WAYS = {"one process": (1, "3000"), "one process, spinning": (1, "100000"), "two processes": (2, "3000")}
"""Processes, and GOMP_SPINCOUNT."""
WARM_UP = 3
"""Iterations at the start that are not counted."""


def main() -> None:
    """Run every way with every network, in rounds, and write results and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK")
    args = parser.parse_args()
    speeds: dict[str, dict[str, list[float]]] = {net: {way: [] for way in WAYS} for net in args.only}
    for index in range(args.rounds):
        for net in args.only:
            for way in WAYS:
                speeds[net][way].append(steps_per_s(net, way))
                print(
                    f"round {index + 1}: {net}, {way}: {speeds[net][way][-1]:.0f} steps/s",
                    file=sys.stderr,
                    flush=True,
                )
    results = {
        "command": shlex.join(["python", f"experiments/{HERE.name}/run.py", *sys.argv[1:]]),
        "steps_per_s": speeds,
        "machine": hardware.describe(),
        "versions": provenance.versions(),
        **provenance.git_tags(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    insert_results(table(results), HERE / "README.md")
    print(table(results))


def steps_per_s(net: str, way: str) -> float:
    """Train once and return environment steps per second after the warm-up."""
    (hidden, iterations), (processes, spin) = NETWORKS[net], WAYS[way]
    start = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
    sizes = (f"policy.actor_hidden={hidden}", f"policy.critic_hidden={hidden}")
    with tempfile.TemporaryDirectory() as folder:
        job = [*JOB, *sizes, f"total_steps={iterations * 1024 * 24}", f"hydra.run.dir={folder}"]
        command = [sys.executable, *start, "-m", "factory.train", *job]
        subprocess.run(
            command,
            env=os.environ | {"GOMP_SPINCOUNT": spin},
            cwd=HERE.parents[1],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        rows = [record.metrics for record in read_records(Path(folder) / "metrics.jsonl")]
    first, last = rows[WARM_UP], rows[iterations - 1]
    steps, seconds = (last[key] - first[key] for key in ("factory/env_steps", "time/wall_s"))
    return steps / seconds


def table(results: dict[str, Any]) -> str:
    """Return medians, and ratios to one process within a round, as Markdown."""
    lines = ["| networks | way | steps/s | over one process |", "|---|---|---|---|"]
    for net, ways in results["steps_per_s"].items():
        base = ways["one process"]
        for way, speeds in ways.items():
            ratios = [speed / other for speed, other in zip(speeds, base, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            lines.append(f"| {net} | {way} | {statistics.median(speeds) / 1e3:.1f} k | {spread} |")
    rounds = len(next(iter(next(iter(results["steps_per_s"].values())).values())))
    lines += [
        "",
        f"`{results['command']}`, {results['machine']['cpu']}, commit `{results['git.commit'][:7]}`, "
        "medians of",
    ]
    return "\n".join([*lines, f"{rounds} rounds, least and greatest ratio in brackets."])


if __name__ == "__main__":
    main()
