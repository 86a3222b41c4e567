"""Measure the speed of the mobility tasks on an otherwise idle machine; write speed.json and the page.

usage: python experiments/010-mobility/speed.py [--seconds 1.0] [--repeats 5]

Each task runs with the policy and learner of its preset.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from results_page import insert_results  # noqa: E402

WANTED = {
    "car_track": (4096, 300_000),
    "car_park": (4096, None),
    "traffic": (8192, 400_000),
    "drone_waypoints": (4096, 200_000),
    "drone_gates": (4096, 200_000),
    "amr_navigate": (1024, 60_000),
    "amr_dock": (1024, None),
    "amr_fleet": (1024, None),
}
"""For each preset its number of rows, and the level of `env.step` [steps/s]; half of it for learning."""


def main() -> None:
    """Measure all presets, and write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", default="1.0")
    parser.add_argument("--repeats", default="5")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    results = {task: _bench(task, num_envs, args) for task, (num_envs, _) in WANTED.items()}
    any_result = next(iter(results.values()))
    content = {
        "command": shlex.join(["python", *sys.argv]),
        "load_before": load,
        **{key: any_result[key] for key in ("date", "git.commit", "git.dirty", "machine")},
        "tasks": {task: _speeds(result) for task, result in results.items()},
    }
    (HERE / "speed.json").write_text(json.dumps(content, indent=1) + "\n")
    insert_results(_table(content), HERE / "speed.md")


def _bench(task: str, num_envs: int, args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "factory.bench", f"experiment={task}", f"num_envs={num_envs}"]
        settings = [f"seconds={args.seconds}", f"repeats={args.repeats}", f"out={out}"]
        subprocess.run([*command, *settings], check=True)
        return dict(json.loads(out.read_text()))


def _speeds(result: dict[str, Any]) -> dict[str, Any]:
    """Return the speeds that the table shows, with their rounds."""
    row = result["rows"][0]
    levels = {name: row["levels"][name]["samples_steps_per_s"] for name in ("env", "learn")}
    return {
        "num_envs": row["num_envs"],
        "steps_per_s": {name: row["levels"][name]["steps_per_s"] for name in levels},
        "samples_steps_per_s": levels,
    }


def _table(content: dict[str, Any]) -> str:
    machine = content["machine"]
    where = f"{machine['cpus_available']} CPUs ({machine['cpu']}), load before {content['load_before']:.1f}"
    rows = [
        f"{where}, commit {content['git.commit'][:10]}, {content['date']}.",
        "Median of the rounds, the slowest and the fastest.\n",
        "| task | rows | `env.step` [k steps/s] | level | with learning [k steps/s] | level |",
        "|---|---|---|---|---|---|",
    ]
    for task, found in content["tasks"].items():
        wanted = WANTED[task][1]
        cells = [f"`{task}`", str(found["num_envs"])]
        for name, share in (("env", 1.0), ("learn", 0.5)):
            samples = found["samples_steps_per_s"][name]
            spread = f"({min(samples) / 1e3:.0f} to {max(samples) / 1e3:.0f})"
            cells.append(f"{found['steps_per_s'][name] / 1e3:.0f} {spread}")
            level = "-"
            if wanted is not None:
                level = f"{share * wanted / 1e3:.0f}"
            cells.append(level)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
