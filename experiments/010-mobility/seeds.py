"""Train mobility tasks over several seeds, score them on held-out worlds; write seeds.json and the page.

usage: python experiments/010-mobility/seeds.py [tasks=car_track,car_park,...] [seeds=0,1,2]
                                                [folder=outputs/seeds]

Presets are trained as they are, on one thread and without a video, into <folder>/<task>_<seed>. Runs that are
there already are scored without training, and those in seeds.json already are left alone. Where a task has a
suite, its test episodes are the score.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cars
from results_page import insert_results

from factory.intervals import wilson
from factory.runtime import hardware, provenance

HERE = Path(__file__).parent
_DIGITS = {"s": 2, "%": 1}
"""Digits of the units in the table."""
SUITES = {"amr_navigate": "amr-v1", "traffic": "traffic-v1"}


class Level(NamedTuple):
    """Level of a task, and the result of the baseline to compare with."""

    wanted: str
    file: str
    baseline: str
    """Name of the row in a file with rows; a name for the table otherwise."""


LEVELS = {
    "car_track": Level(
        "97 %, lap 15 % below the baseline", "cars.json", "pure_pursuit friction_share=0.6 braking_share=0.6"
    ),
    "car_park": Level("88 %", "cars.json", "planner speed_m_per_s=1"),
    "drone_waypoints": Level("98 %, faster than the baseline", "drones.json", "cascade speed_m_per_s=4"),
    "drone_gates": Level("90 %", "drones.json", "cascade speed_m_per_s=3"),
    "traffic": Level(
        "baseline + 15 points, half of its collisions", "traffic-v1/test_pursuit_yield.json", "pursuit_yield"
    ),
    "amr_navigate": Level("90 %, at fault at most 4 %", "amr-v1/test_dwa.json", "dwa"),
    "amr_dock": Level("none yet", "mobile-robots/dock_map.json", "map"),
    "amr_fleet": Level("none yet", "mobile-robots/fleet_dwa.json", "dwa"),
}
"""Tasks in the order of the table."""


def training_command(task: str, seed: int, folder: Path) -> list[str]:
    """Return the command that trains a preset."""
    return [
        *("python", "-m", "factory.train", f"experiment={task}", f"seed={seed}", "tracking=jsonl"),
        *("runtime.torch_threads=1", "runtime.video_s=0", f"hydra.run.dir={folder}"),
    ]


def run(command: list[str]) -> None:
    """Run a command of this project with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command[1:]], check=True, env=environment)


def score(task: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the result of a run on held-out episodes, and what the run took."""
    if task in cars.TIME:
        scored = cars.score_run(folder, 1024)
    elif task in SUITES:
        scored = score_suite(task, folder)
    else:
        scored = score_summary(folder)
    summary = json.loads((folder / "summary.json").read_text())
    metrics = summary["metrics"]
    trained = {
        "command": shlex.join(training_command(task, seed, folder)),
        "env_steps": last_steps(folder),
        "wall_s": metrics["time/wall_s"],
        "cpu_s": metrics["factory/cpu_s_per_token"] * metrics["factory/tokens_total"],
        "energy_j": [metrics[f"energy/total_j{bound}"] for bound in ("_lo", "", "_hi")],
        "commit": summary["tags"].get("git.commit", "unknown"),
        "dirty": summary["tags"].get("git.dirty", "unknown"),
    }
    commit = provenance.git_tags()["git.commit"]
    return scored | {"task": task, "seed": seed, "training": trained, "commit": commit}


def score_suite(task: str, folder: Path) -> dict[str, Any]:
    """Play the test episodes of a task's suite."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "result.json"
        run(["python", "-m", "factory.evaluate", f"suite={SUITES[task]}", f"run={folder}", f"out={out}"])
        content = json.loads(out.read_text())
    kept = {
        key: content[key] for key in ("suite", "table_sha256", "split", "episodes", "outcomes", "metrics")
    }
    return kept | {"success": content["metrics"]["success"]}


def score_summary(folder: Path) -> dict[str, Any]:
    """Return the evaluation that ended the training."""
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    episodes = int(metrics["eval/episodes"])
    share = metrics["eval/success_rate"]
    interval = wilson(share, episodes)
    outcomes = {key.rpartition("/")[2]: value for key, value in metrics.items() if "eval/outcome/" in key}
    return {"episodes": episodes, "outcomes": outcomes, "success": [interval.lo, share, interval.hi]}


def last_steps(folder: Path) -> int:
    """Return the environment steps of a run."""
    state = json.loads((folder / "checkpoints" / "last" / "state.json").read_text())
    return int(state["env_steps"])


def baseline_of(task: str) -> dict[str, Any]:
    """Return the stored result of a task's baseline."""
    level = LEVELS[task]
    content = json.loads((HERE / level.file).read_text())
    if "rows" in content:
        (content,) = (row for row in content["rows"] if (row["task"], row["name"]) == (task, level.baseline))
    if "success" in content:
        return content
    if "suite" in content:
        return content | {"success": content["metrics"]["success"]}
    # Of an evaluation without a suite.
    low, high = content["intervals"]["eval/success_rate"]
    return content | {"success": [low, content["metrics"]["eval/success_rate"], high]}


def percent(bounds: list[float]) -> str:
    """Return a share with its interval."""
    low, share, high = (100.0 * bound for bound in bounds)
    return f"{share:.1f} ({low:.1f} to {high:.1f})"


def faults(task: str, result: dict[str, Any]) -> float | None:
    """Return the share of collisions in percent that a task's level is about, if it is."""
    keys = {"amr_navigate": "collision_at_fault", "traffic": "collision"}
    if task not in keys:
        return None
    return 100.0 * result["metrics"][keys[task]][1]


def time_of(task: str, result: dict[str, Any]) -> float | None:
    """Return the median time of a success [s], if the task has one."""
    return result.get(f"median_{cars.TIME.get(task)}")


def shown(value: float | None, unit: str) -> str:
    """Return a number for the table."""
    if value is None:
        return "-"
    return f"{value:.{_DIGITS[unit]}f} {unit}"


def middle(values: list[float | None]) -> float | None:
    """Return the median of the values that there are."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return median(known)


def table(rows: list[dict[str, Any]]) -> str:
    """Return one row a task: its seeds, their median, and the baseline."""
    lines = [
        "| task | level | success of the seeds [%] | median [%] | time | collisions | baseline [%] | "
        "its time | its collisions | steps | CPU time | energy, estimated |",
        "|" + "---|" * 12,
    ]
    for task, level in LEVELS.items():
        found = sorted((row for row in rows if row["task"] == task), key=lambda row: row["seed"])
        if not found:
            continue
        other = baseline_of(task)
        trainings = [row["training"] for row in found]
        energy = [median(run["energy_j"][bound] for run in trainings) for bound in range(3)]
        cells = [
            f"`{task}`",
            level.wanted,
            "; ".join(f"{row['seed']}: {percent(row['success'])}" for row in found),
            f"{100.0 * median(row['success'][1] for row in found):.1f}",
            shown(middle([time_of(task, row) for row in found]), "s"),
            shown(middle([faults(task, row) for row in found]), "%"),
            f"`{level.baseline}` {percent(other['success'])}",
            shown(time_of(task, other), "s"),
            shown(faults(task, other), "%"),
            f"{median(run['env_steps'] for run in trainings) / 1e6:.1f} M",
            f"{median(run['cpu_s'] for run in trainings):.0f} s",
            f"{energy[1]:.0f} J ({energy[0]:.0f} to {energy[2]:.0f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train and score what is missing, one after the other."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    folder = Path(given.get("folder", "outputs/seeds"))
    path = HERE / "seeds.json"
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if path.exists():
        rows = {(row["task"], row["seed"]): row for row in json.loads(path.read_text())["rows"]}
    for seed in map(int, given.get("seeds", "0,1,2").split(",")):
        for task in given.get("tasks", ",".join(LEVELS)).split(","):
            place = folder / f"{task}_{seed}"
            if (task, seed) in rows:
                continue
            if not (place / "summary.json").exists():
                run(training_command(task, seed, place))
            rows[task, seed] = score(task, seed, place)
            print(task, seed, percent(rows[task, seed]["success"]), flush=True)
            content = {
                "command": shlex.join(["python", "experiments/010-mobility/seeds.py", *sys.argv[1:]]),
                "machine": hardware.describe(),
                "versions": provenance.versions(),
                "rows": [rows[key] for key in sorted(rows)],
            }
            path.write_text(json.dumps(content, indent=1) + "\n")
    insert_results(table([rows[key] for key in sorted(rows)]), HERE / "seeds.md")


if __name__ == "__main__":
    main()
