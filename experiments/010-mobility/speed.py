"""Measure the speed of the mobility tasks on an otherwise idle machine; write speed.json and the page.

usage: python experiments/010-mobility/speed.py [--tasks car_track traffic ...] [--seconds 1.0] [--repeats 5]

Each task runs with the policy and learner of its preset.
"""

from __future__ import annotations

import argparse
import json
import os
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
    """Measure presets, and write figures and page; figures of other presets stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=WANTED, default=list(WANTED))
    parser.add_argument("--seconds", default="1.0")
    parser.add_argument("--repeats", default="5")
    args = parser.parse_args()
    file = HERE / "speed.json"
    known: dict[str, Any] = {}
    if file.exists():
        known = json.loads(file.read_text())
    load = os.getloadavg()[0]
    for task in args.tasks:
        known[task] = _speeds(_bench(task, WANTED[task][0], args)) | {"load_before": load}
    content = {task: known[task] for task in WANTED if task in known}
    file.write_text(json.dumps(content, indent=1) + "\n")
    insert_results(_table(content), HERE / "speed.md")


def _bench(task: str, num_envs: int, args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "factory.bench", f"experiment={task}", f"num_envs={num_envs}"]
        settings = [f"seconds={args.seconds}", f"repeats={args.repeats}", f"out={out}"]
        subprocess.run([*command, *settings], check=True)
        return dict(json.loads(out.read_text()))


def _speeds(result: dict[str, Any]) -> dict[str, Any]:
    """Return the speeds that the table shows, with their rounds, and where they were measured."""
    row = result["rows"][0]
    levels = {name: row["levels"][name]["samples_steps_per_s"] for name in ("env", "learn")}
    return {
        **{key: result[key] for key in ("date", "git.commit", "git.dirty", "machine")},
        "num_envs": row["num_envs"],
        "steps_per_s": {name: row["levels"][name]["steps_per_s"] for name in levels},
        "samples_steps_per_s": levels,
    }


def _table(content: dict[str, Any]) -> str:
    rows = [
        "Median of the rounds, the slowest and the fastest.\n",
        "| task | rows | `env.step` [k/s] | level | with learning [k/s] | level | commit | CPUs | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, found in content.items():
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
        machine = found["machine"]
        cpus = f"{machine['cpus_available']} x {machine['cpu']}"
        cells += [found["git.commit"][:10], cpus, f"{found['load_before']:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
