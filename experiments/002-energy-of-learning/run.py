"""Find what learning costs in energy on this machine: `python experiments/002-energy-of-learning/run.py`."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from report import draw, table

from factory import cli, options
from factory.benchmark.harness import Harness
from factory.energy import kpi
from factory.energy.meter import Meter
from factory.runtime import device, hardware, provenance
from factory.training.collector import no_phase

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from results_page import insert_results  # noqa: E402

CHECKOUT = HERE.parents[1]
NETWORKS = ("64,64", "256,128", "512,256,128")
CHEETAH = ["task=gym/half_cheetah", "learner.gamma=0.97", "learner.desired_kl=0.015", "policy.init_std=0.5"]
TASKS = {
    "cartpole_swingup": ["task=cartpole_swingup", "task.return_threshold=900", "total_steps=2_600_000"],
    "half_cheetah": [
        *CHEETAH,
        *[
            "learner.num_steps=32",
            "learner.num_minibatches=8",
            "task.return_threshold=2000",
            "total_steps=2_500_000",
        ],
    ],
}
"""Tasks with the return to be reached, and the steps after which a run gives up."""
BARE = ["tracking=null", "runtime.video_s=0", "runtime.eval_episodes=1", "runtime.register_model=false"]
"""A training of which only learning is of interest."""

Sample = dict[str, Any]
Cells = dict[str, tuple[int, Callable[[int], Sample]]]
"""By name: how many samples are wanted, and what takes one, given its number (the seed, where there are
seeds).
"""


def main() -> None:
    """Take the samples that are missing, in turn, then write results, table and figure."""
    args = arguments()
    options.register()
    cells = per_token(args) | to_threshold(args) | equal_runs(args) | overhead(args)
    cells = {name: cell for name, cell in cells.items() if name.startswith(tuple(args.only))}
    if not cells:
        raise SystemExit(f"error: --only {' '.join(args.only)}: no cell's name begins so")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"cells": {}}
    if args.again:
        results["cells"] = {name: found for name, found in results["cells"].items() if name not in cells}
    command = shlex.join(["python", f"experiments/{HERE.name}/run.py", *sys.argv[1:]])
    tags = provenance.git_tags()  # before results make the checkout differ
    results |= {"command": command, "date": now(), **tags, "machine": hardware.describe()}
    results |= {"versions": provenance.versions(), "device": args.device}
    for index in range(max(repeats for repeats, _ in cells.values())):
        for name in reversed(cells) if index % 2 else cells:
            found = results["cells"].setdefault(name, [])
            if len(found) <= index < cells[name][0]:
                found.append(observed(partial(cells[name][1], index)) | tags)
                print(
                    f"round {index + 1}  {name:<52} {found[-1]['took_s']:.1f} s", file=sys.stderr, flush=True
                )
                path.write_text(json.dumps(results, indent=1) + "\n")
    if (args.out / "README.md").is_file():
        insert_results(table(results), args.out / "README.md")
    draw(results, args.out / "figure.png")
    print(table(results))


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="cells whose names begin so")
    parser.add_argument("--again", action="store_true", help="throw the samples of these cells away first")
    parser.add_argument(
        "--quick", action="store_true", help="a trial of every part, whose figures say nothing"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="length of a sample per token [s]; 10 for counters"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda if it can be used"
    )
    parser.add_argument("--out", type=Path, help="folder for results.json, figure.png and README.md")
    args = parser.parse_args()
    args.out = args.out or (CHECKOUT / "outputs" / HERE.name if args.quick else HERE)
    args.seconds = 0.3 if args.quick else args.seconds
    if args.device == "auto":
        args.device = (
            "cuda" if hardware.describe()["gpus"] and "warp" in options.choices("physics") else "cpu"
        )
    args.where = [f"device={args.device}", f"physics={'warp' if args.device == 'cuda' else 'mujoco'}"]
    return args


def now() -> str:
    """Return date and time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def observed(take: Callable[[], Sample]) -> Sample:
    """Return a sample with its date, and how many cores were busy with anything else meanwhile."""
    begin_s, before_s = time.perf_counter(), busy_elsewhere_s()
    sample = take()
    took_s = time.perf_counter() - begin_s
    elsewhere = max(0.0, busy_elsewhere_s() - before_s) / took_s
    return sample | {"busy_elsewhere": elsewhere, "took_s": took_s, "date": now()}


def busy_elsewhere_s() -> float:
    """Return the CPU time of this machine less that of this process and of those it waited for [s]."""
    all_times, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return all_times.user + all_times.system - sum(own[:4])


# ---- per token ------------------------------------------------------------------------------------------


def per_token(args: argparse.Namespace) -> Cells:
    """Return worlds by threads with the smallest network, and networks by threads with 1024 worlds."""
    cpus = device.available_cpus()
    threads = sorted({1, max(1, cpus // 2), cpus}) if args.device == "cpu" else [cpus]
    sizes = (
        (64, 256) if args.quick else (64, 256, 1024, 4096) if args.device == "cpu" else (1024, 4096, 16384)
    )
    grid = [(size, number, NETWORKS[0]) for size in sizes for number in threads]
    grid += [(1024, number, network) for network in NETWORKS[1:] for number in threads if not args.quick]
    return {
        f"per_token worlds={cell[0]} threads={cell[1]} network={cell[2]}": (
            1 if args.quick else 3,
            partial(sample_per_token, args, *cell),
        )
        for cell in grid
    }


def sample_per_token(args: argparse.Namespace, num_envs: int, threads: int, network: str, _: int) -> Sample:
    """Train for some seconds without a break, after an iteration of warm-up."""
    networks = [f"policy.{part}_hidden=[{network}]" for part in ("actor", "critic")]
    limits = [f"physics.num_threads={threads}", f"runtime.torch_threads={threads}"]
    job = cli.single_job([*CHEETAH, *args.where, *networks, *limits, f"num_envs={num_envs}"])
    harness = Harness.open(job)
    warm_up = harness.train(harness.stopwatch(), iterations=1)
    meter = Meter.from_config(job.energy, job.device)
    segment = harness.train(meter, iterations=math.ceil(args.seconds / warm_up.reading.wall_s))
    harness.env.close()
    reading, tokens = segment.reading, segment.tokens
    joules = reading.energy.map(partial(kpi.joules_per_token, tokens=tokens))
    return {
        "worlds": num_envs,
        "threads": threads,
        "network": network,
        "tokens": tokens,
        "tokens_per_s": tokens / reading.wall_s,
        "cpu_s_per_token": kpi.cpu_s_per_token(reading.cpu_s, tokens=tokens),
        "joules_per_token": joules.value,
        "lo": joules.lo,
        "hi": joules.hi,
        "tier": reading.tier,
        "boundary": reading.boundary,
    }


# ---- to a return ----------------------------------------------------------------------------------------


def to_threshold(args: argparse.Namespace) -> Cells:
    """Return two tasks with two numbers of worlds, three seeds each."""
    quick = ["total_steps=40_000", "task.return_threshold=40"] if args.quick else []
    return {
        f"to_threshold task={task} worlds={size}": (
            2 if args.quick else 3,
            partial(sample_to_threshold, task, size, [*overrides, *args.where, *quick]),
        )
        for task, overrides in TASKS.items()
        for size in ((256, 1024) if args.device == "cpu" else (1024, 4096))
    }


def sample_to_threshold(task: str, num_envs: int, overrides: Sequence[str], seed: int) -> Sample:
    """Train until the return is reached, or for all steps.

    A run that never gets there is kept as censored.
    """
    job = [*overrides, f"num_envs={num_envs}", f"seed={seed}"]
    rows, tags = train(job, stop_at_threshold=True)
    reached = [row for row in rows if "factory/seconds_to_threshold" in row]
    spent = reached[0] if reached else rows[-2]  # the last one is of the whole run, evaluation included
    tokens = spent["factory/tokens_total"]
    return {
        "task": task,
        "worlds": num_envs,
        "seed": seed,
        "threshold": cli.single_job(job).task.return_threshold,
        "reached": bool(reached),
        "tokens": tokens,
        "wall_s": spent["time/wall_s"],
        "cpu_s": spent["factory/cpu_s_per_token"] * tokens,
        "energy_j": spent["energy/total_j"],
        "lo": spent["energy/total_j_lo"],
        "hi": spent["energy/total_j_hi"],
        "tier": tags["energy.tier"],
    }


def train(
    overrides: Sequence[str], *, stop_at_threshold: bool = False
) -> tuple[list[dict[str, float]], Sample]:
    """Run `python -m factory.train`, till the threshold if so asked; return its curves and its tags."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [*BARE, *overrides, f"output_root={folder}", f"hydra.run.dir={run_dir}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "factory.train", *command],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        curves = run_dir / "metrics.jsonl"
        while stop_at_threshold and process.poll() is None:
            time.sleep(0.2)
            if curves.exists() and b"factory/seconds_to_threshold" in curves.read_bytes()[-4096:]:
                process.send_signal(signal.SIGINT)
                break
        errors = process.communicate()[1]
        if process.returncode not in (0, 130):
            raise SystemExit(errors.strip() or f"training ended with status {process.returncode}")
        rows = [json.loads(line)["metrics"] for line in curves.read_text().splitlines()]
        return rows, json.loads((run_dir / "summary.json").read_text())["tags"]


# ---- the meter itself -----------------------------------------------------------------------------------


def overhead(args: argparse.Namespace) -> Cells:
    """Return iterations with phases and gauges and iterations without, in turn within one process."""
    pairs = {256: 10} if args.quick else {256: 300, 1024: 100}
    return {
        f"meter overhead worlds={size}": (
            1 if args.quick else 3,
            partial(sample_overhead, args, size, number),
        )
        for size, number in pairs.items()
    }


def sample_overhead(args: argparse.Namespace, num_envs: int, pairs: int, _: int) -> Sample:
    """Return how long iterations took, in pairs whose order alternates: `[metered, bare]` [s]."""
    job = cli.single_job([*CHEETAH, *args.where, f"num_envs={num_envs}"])
    harness = Harness.open(job)
    harness.train(harness.stopwatch(), iterations=2)
    meter = Meter.from_config(job.energy, job.device)
    meter.start()
    times: list[tuple[float, float]] = []
    for index in range(pairs):
        order = (True, False) if index % 2 else (False, True)
        took = {is_metered: iteration_s(harness, meter if is_metered else None) for is_metered in order}
        times.append((took[True], took[False]))
    own_s = meter.read().overhead_s
    meter.close()
    harness.env.close()
    return {"worlds": num_envs, "pairs_s": times, "meter_s": own_s, "gauges": meter.read().tier}


def iteration_s(harness: Harness, meter: Meter | None) -> float:
    """Collect and learn once.

    With a meter, as training does it: in phases, read and put on record at the end [s].
    """
    harness.collector.phase = phase = meter.phase if meter else no_phase
    begin_s = time.perf_counter()
    rollout, _ = harness.collector.collect()
    with phase("learn"):
        harness.learner.update(rollout)
    if meter:
        json.dumps([meter.read().metrics(), meter.state_dict()])
    return time.perf_counter() - begin_s


def equal_runs(args: argparse.Namespace) -> Cells:
    """Return one training, several times."""
    job = ["task=cartpole_swingup", f"total_steps={20_000 if args.quick else 400_000}", *args.where]
    return {"meter equal runs": (2 if args.quick else 6, partial(sample_equal_run, job))}


def sample_equal_run(job: Sequence[str], _: int) -> Sample:
    """Train with one and the same seed."""
    rows, tags = train(job)
    keys = {
        "wall_s": "time/wall_s",
        "meter_s": "time/meter_s",
        "cpu_s_per_token": "factory/cpu_s_per_token",
        "energy_j": "energy/total_j",
        "lo": "energy/total_j_lo",
        "hi": "energy/total_j_hi",
        "return": "train/return_mean",
        "tokens": "factory/tokens_total",
    }
    return {name: rows[-1][key] for name, key in keys.items() if key in rows[-1]} | {
        "tier": tags["energy.tier"]
    }


if __name__ == "__main__":
    main()
