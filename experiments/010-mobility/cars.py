"""Score baselines and trained policies of the car tasks on held-out worlds; write cars.json and the page.

usage: python experiments/010-mobility/cars.py [runs=<run folder>,<run folder>,...] [episodes=1024]

Baselines are scored at several settings, so that a policy is compared with their best. Those that are in
cars.json already are not played again.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from results_page import insert_results

from factory import cli, config
from factory.baselines.base import make_baseline
from factory.intervals import wilson
from factory.runtime import device, hardware, provenance
from factory.training import checkpoint, fit
from factory.training.build import make_env, make_policy
from factory.training.evaluation import EvaluationResult, evaluate
from factory.training.stages import EVAL_SEED

HERE = Path(__file__).parent
TIME = {
    "car_track": "lap_time_s",
    "car_park": "parking_time_s",
    "drone_waypoints": "flight_time_s",
    "drone_gates": "flight_time_s",
}
"""Metric of the time that a success takes."""
BASELINES: dict[str, list[tuple[str, dict[str, float], int]]] = {
    "car_track": [
        ("zero", {}, 256),
        ("random", {}, 256),
        *(("pure_pursuit", {"friction_share": share}, 1024) for share in (0.5, 0.6, 0.65, 0.7, 0.75, 0.8)),
        ("pure_pursuit", {"friction_share": 0.6, "braking_share": 0.6}, 1024),
        ("pure_pursuit", {"friction_share": 0.55, "braking_share": 0.7}, 1024),
        ("pure_pursuit", {"friction_share": 0.75, "braking_share": 0.35}, 1024),
    ],
    "car_park": [
        ("zero", {}, 256),
        ("random", {}, 256),
        ("planner", {"speed_m_per_s": 1.0}, 256),
        ("planner", {"speed_m_per_s": 1.4}, 256),
    ],
}
"""Task -> name, options and episodes of each baseline."""


def row(task: str, name: str, result: EvaluationResult) -> dict[str, Any]:
    """Return the figures of an evaluation."""
    episodes = result.episodes
    interval = wilson(result.success_rate, episodes)
    times = result.table[TIME[task]]
    # JSON knows no NaN.
    median_s = None
    if result.success_rate > 0.0:
        median_s = float(times.nanmedian())
    shown = {"task": task, "name": name, "episodes": episodes, "outcomes": result.outcomes}
    shown |= {"success": [interval.lo, result.success_rate, interval.hi]}
    shown |= {f"median_{TIME[task]}": median_s}
    return shown | {"metrics": result.metrics()}


def label(name: str, options: dict[str, float]) -> str:
    """Return the name of a baseline with its options."""
    return " ".join([name, *(f"{key}={value:g}" for key, value in options.items())])


def score_baseline(task: str, name: str, options: dict[str, float], episodes: int) -> dict[str, Any]:
    """Play a baseline on the worlds of an evaluation."""
    job = cli.single_job([f"task={task}", "runtime.torch_threads=1"])
    device.set_up(1)
    with contextlib.closing(make_env(job, num_envs=episodes, evaluation=True)) as env:
        baseline = make_baseline(name, job.task, env, options)
        return row(task, label(name, options), evaluate(env, baseline, episodes=episodes, seed=EVAL_SEED))


def score_run(folder: Path, episodes: int) -> dict[str, Any]:
    """Play the newest policy of a run on the worlds of an evaluation, and add what its training took."""
    found = checkpoint.load(folder, key="run")
    cfg = config.from_plain(found.config | {"energy": {}, "tracking": {}, "resume": ""})
    device.set_up(1)
    with contextlib.closing(make_env(cfg, num_envs=episodes, evaluation=True)) as env:
        policy = make_policy(cfg, env)
        fit.load_part(policy, found.tensors["policy"], name="policy")
        shown = row(
            cfg.task.name, f"PPO seed {cfg.seed}", evaluate(env, policy, episodes=episodes, seed=EVAL_SEED)
        )
    summary = json.loads((folder / "summary.json").read_text())
    trained = {
        "env_steps": found.env_steps,
        "wall_s": summary["metrics"]["time/wall_s"],
        "cpu_s": summary["metrics"]["factory/cpu_s_per_token"] * summary["metrics"]["factory/tokens_total"],
        "commit": summary["tags"].get("git.commit", "unknown"),
    }
    return shown | {"training": trained}


def main(page: str, baselines: dict[str, list[tuple[str, dict[str, float], int]]]) -> None:
    """Score what is missing, then write results and tables.

    Args:
        page: name of both files, without their ends.
        baselines: task -> name, options and episodes of each baseline.
    """
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    path = HERE / f"{page}.json"
    content: dict[str, Any] = {"rows": []}
    if path.exists():
        content = json.loads(path.read_text())
    rows = {(entry["task"], entry["name"]): entry for entry in content["rows"]}
    commit = provenance.git_tags()["git.commit"]
    for task, listed in baselines.items():
        for name, options, episodes in listed:
            if (task, label(name, options)) in rows:
                continue
            scored = score_baseline(task, name, options, episodes) | {"commit": commit}
            rows[task, scored["name"]] = scored
            print(scored["task"], scored["name"], scored["success"], flush=True)
    for folder in filter(None, given.get("runs", "").split(",")):
        scored = score_run(Path(folder), int(given.get("episodes", 1024))) | {"commit": commit}
        rows[scored["task"], scored["name"]] = scored
        print(scored["task"], scored["name"], scored["success"], flush=True)
    content = {
        "command": shlex.join(["python", f"experiments/010-mobility/{page}.py", *sys.argv[1:]]),
        "machine": hardware.describe(),
        "versions": provenance.versions(),
        "rows": [rows[key] for key in sorted(rows)],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    insert_results("\n\n".join(table(content["rows"], task) for task in baselines), HERE / f"{page}.md")


def table(rows: list[dict[str, Any]], task: str) -> str:
    """Return the rows of a task as a Markdown table."""
    lines = [
        f"**`{task}`**",
        "",
        "| | episodes | success, 95 % interval | other ends | median time of a success | trained in |",
        "|---|---|---|---|---|---|",
    ]
    for entry in rows:
        if entry["task"] != task:
            continue
        low, share, high = (100.0 * value for value in entry["success"])
        others = [
            f"{name.replace('_', ' ')} {100.0 * part:.1f} %"
            for name, part in entry["outcomes"].items()
            if name != "success" and part
        ]
        trained = "-"
        if "training" in entry:
            training = entry["training"]
            trained = f"{training['env_steps'] / 1e6:.1f} M steps, {training['cpu_s']:.0f} CPU-s"
        time_s = entry[f"median_{TIME[task]}"]
        shown_s = "-"
        if time_s is not None:
            shown_s = f"{time_s:.2f} s"
        lines.append(
            f"| {entry['name']} | {entry['episodes']} | {share:.1f} % ({low:.1f} to {high:.1f}) | "
            f"{', '.join(others) or '-'} | {shown_s} | {trained} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main("cars", BASELINES)
