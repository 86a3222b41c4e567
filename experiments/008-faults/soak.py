"""Train for a long time and fit lines through memory, open files, threads and step time."""

from __future__ import annotations

import argparse
import json
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
WARM_UP = 0.2
"""Share of the time that is left out at the start, where caches fill."""


def main() -> None:
    """Train, look at the process every few seconds, and write slopes with their uncertainty."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    samples: list[dict[str, float]] = []

    def watch(process: subprocess.Popen[str]) -> None:
        begin_s = time.monotonic()
        while (now_s := time.monotonic() - begin_s) < 60.0 * args.minutes and process.poll() is None:
            samples.append({"time_s": now_s, **_look(process.pid)})
            time.sleep(EVERY_S)
        process.terminate()

    with tempfile.TemporaryDirectory() as root:
        shop = Workshop(Path(root))
        seen = shop.run("train", *JOB, folder=Path(root), meanwhile=watch, limit_s=600.0)
        lines = (newest_run(Path(root)) / "metrics.jsonl").read_text().splitlines()
    speeds = [json.loads(line)["metrics"].get("factory/env_steps_per_s") for line in lines]
    kept = samples[int(WARM_UP * len(samples)) :]
    times_h = np.array([sample["time_s"] for sample in kept]) / 3600.0
    slopes = {
        f"{name} an hour": _slope(times_h, np.array([sample[name] for sample in kept]))
        for name in ("memory_mb", "files", "threads")
    }
    known = np.array([speed for speed in speeds if speed is not None])
    part = known[int(WARM_UP * len(known)) :]
    slopes["relative speed over the run"] = _slope(np.linspace(0.0, 1.0, len(part)), part / np.median(part))
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
    """Return resident memory, open files and threads of a process (Linux)."""
    folder = Path("/proc", str(pid))
    try:
        status = (folder / "status").read_text()
        files = len(list((folder / "fd").iterdir()))
    except OSError:
        return {"memory_mb": float("nan"), "files": float("nan"), "threads": float("nan")}
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    memory_kb = float(values.get("VmRSS", "nan kB").split()[0])
    return {"memory_mb": memory_kb / 1024.0, "files": files, "threads": float(values["Threads"])}


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
