"""Train for a long time and fit lines through memory, open files, threads and CPU time of a step."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from workshop import Workshop, newest_run  # noqa: E402

from factory.runtime import hardware, provenance  # noqa: E402

JOB = (
    "task=quadruped_velocity",
    "num_envs=64",
    "total_steps=1e12",
    "checkpoint_every=50",
    "tracking=mlflow",
)
EVERY_S = 5.0
EACH = 12
"""Samples from one mark of the CPU time to the next, a minute."""
TAIL_BYTES = 100_000
"""Part of the log in which the last row is searched for."""
WARM_UP = 0.2
"""Share of the time that is left out at the start, where caches fill."""


def main() -> None:
    """Train, look at the process every few seconds, and write slopes with their uncertainty."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as root:

        def watch(process: subprocess.Popen[str]) -> None:
            begin_s = time.monotonic()
            while (now_s := time.monotonic() - begin_s) < 60.0 * args.minutes and process.poll() is None:
                samples.append({"time_s": now_s, **_look(process.pid), "steps": _steps(Path(root))})
                time.sleep(EVERY_S)
            process.terminate()

        shop = Workshop(Path(root))
        seen = shop.run("train", *JOB, folder=Path(root), meanwhile=watch, limit_s=600.0)
        lines = (newest_run(Path(root)) / "metrics.jsonl").read_text().splitlines()
    kept = samples[int(WARM_UP * len(samples)) :]
    times_h = np.array([sample["time_s"] for sample in kept]) / 3600.0
    slopes = {
        f"{name} an hour": _slope(times_h, np.array([sample[name] for sample in kept]))
        for name in ("memory_mb", "files", "threads")
    }
    # Of some samples together, since steps are counted by whole iterations.
    marks = kept[::EACH]
    cost_s = np.diff([mark["cpu_s"] for mark in marks]) / np.diff([mark["steps"] for mark in marks])
    middle_h = np.array([mark["time_s"] for mark in marks[1:]]) / 3600.0
    slopes["relative CPU time of a step an hour"] = _slope(middle_h, cost_s / np.median(cost_s))
    results = {
        **provenance.git_tags(),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        "status": seen.status,
        "iterations": len(lines),
        "slopes": slopes,
        "samples": samples[:: max(1, len(samples) // 60)],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "soak.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({name: results[name] for name in ("status", "iterations", "slopes")}, indent=1))


def _look(pid: int) -> dict[str, float]:
    """Return resident memory, open files, threads and CPU time of a process (Linux)."""
    folder = Path("/proc", str(pid))
    try:
        status = (folder / "status").read_text()
        files = len(list((folder / "fd").iterdir()))
        user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return dict.fromkeys(("memory_mb", "files", "threads", "cpu_s"), float("nan"))
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    memory_kb = float(values.get("VmRSS", "nan kB").split()[0])
    return {
        "memory_mb": memory_kb / 1024.0,
        "files": files,
        "threads": float(values["Threads"]),
        "cpu_s": (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"),
    }


def _steps(root: Path) -> float:
    """Return the environment steps that the newest run has logged."""
    for path in root.rglob("metrics.jsonl"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            rows = file.read().splitlines()
        # The last row may be half written.
        for row in reversed(rows):
            with contextlib.suppress(ValueError):
                return float(json.loads(row)["step"])
    return 0.0


def _slope(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the least-squares slope and twice its standard error, with the mean of `y`."""
    usable = np.isfinite(y)
    x = x[usable]
    y = y[usable]
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    error = float(np.sqrt(residual @ residual / (len(x) - 2) / (centred @ centred)))
    return {"mean": float(y.mean()), "slope": slope, "error": 2.0 * error}


if __name__ == "__main__":
    main()
