"""Kill one training 25 times at random moments, and compare what comes out with the undisturbed run."""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from workshop import Workshop, difference, newest_run, rows, wait_until  # noqa: E402

from factory.runtime import hardware, provenance  # noqa: E402

ITERATION = 1024 * 32
LENGTH = 100
"""Iterations of about half a second: slow enough that MLflow gets a row of each."""
WHOLE = (
    "task=cartpole_swingup",
    "num_envs=1024",
    "learner.num_steps=32",
    "learner.schedule=adaptive",
    "tracking=mlflow",
    "checkpoint_every=5",
    "runtime.eval_episodes=64",
    "runtime.video_s=0.4",
    f"total_steps={LENGTH * ITERATION}",
)
"""Every stage: evaluation, video, export and registration."""
STAGES = ("evaluate", "video", "export", "register")


def main() -> int:
    """Run the undisturbed training, then the one that is killed; write what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as root:
        shop = Workshop(Path(root))
        undisturbed = shop.original("whole", *WHOLE, job=())
        folder = Path(root) / "killed"
        folder.mkdir()
        kills = _kill(shop, folder, args.kills, draw)
        run_dir = newest_run(folder)
        last = shop.run("train", f"resume={run_dir}", folder=folder)
        found = {
            "kills": kills,
            "status": last.status,
            "weights": difference(run_dir, undisturbed) or "equal",
            **_compare(run_dir, undisturbed),
        }
    results = {
        **provenance.git_tags(),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        **found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "kills.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    equal = all(pair[0] == pair[1] for pair in found.values() if isinstance(pair, list) and len(pair) == 2)
    return int(last.status != 0 or found["weights"] != "equal" or not equal)


def _kill(shop: Workshop, folder: Path, count: int, draw: random.Random) -> list[str]:
    """Start or resume the run and kill it, `count` times; return the moments."""
    moments = []
    for index in range(count):
        begun = list(folder.glob("outputs/*/*/checkpoints/last/state.json"))
        arguments = (f"resume={newest_run(folder)}",) if begun else WHOLE
        # Two thirds of the kills come while it loads or trains, the others in the stages after it.
        stage = STAGES[index % len(STAGES)] if index >= 2 * count // 3 else ""
        delay_s = draw.uniform(0.0, 1.0) if stage else draw.uniform(0.5, 9.0)
        ended = []

        def kill(
            process: subprocess.Popen[str],
            stage: str = stage,
            delay_s: float = delay_s,
            ended: list[int | None] = ended,
        ) -> None:
            if stage:
                wait_until(_begins(folder / ".train.out", stage), process)
            time.sleep(delay_s)
            ended.append(process.poll())
            process.kill()

        shop.run("train", *arguments, folder=folder, meanwhile=kill)
        where = stage or f"{delay_s:.1f} s after the start"
        moments.append(where if ended[0] is None else f"{where}: had ended with status {ended[0]}")
        print(f"kill {index + 1}: {moments[-1]}", file=sys.stderr, flush=True)
    return moments


def _begins(console: Path, stage: str) -> Callable[[], bool]:
    """Return a condition: the stage before this one is done, or this one is under way."""
    index = STAGES.index(stage)
    before = f"{STAGES[index - 1]} done" if index else "checkpoint "

    def holds() -> bool:
        text = console.read_text(errors="replace")
        # Training is over once the last line of progress says so.
        return before in text if index else "(100 %)" in text or "100%" in text

    return holds


def _compare(run_dir: Path, undisturbed: Path) -> dict[str, list[Any]]:
    """Return pairs that must be equal: killed run first, undisturbed run second."""
    pairs: dict[str, list[Any]] = {"rows of metrics.jsonl": [], "tokens": [], "return": []}
    for folder in (run_dir, undisturbed):
        summary = json.loads((folder / "summary.json").read_text())
        pairs["rows of metrics.jsonl"].append(len(rows(folder)))
        pairs["tokens"].append(summary["metrics"]["factory/tokens_total"])
        pairs["return"].append(summary["metrics"]["eval/return_mean"])
        for name, value in _store(folder).items():
            pairs.setdefault(name, []).append(value)
    return pairs


def _store(run_dir: Path) -> dict[str, Any]:
    """Return what MLflow holds of the run: rows, steps, model versions, runs, and how it ended."""
    from factory.tracking.store import connect

    client = connect(f"sqlite:///{run_dir.parents[1] / 'mlflow.db'}")
    run_id = json.loads((run_dir / "summary.json").read_text())["mlflow_run_id"]
    history = client.get_metric_history(run_id, "train/return_mean")
    # MLflow has a row of the last iteration, and one of the end of the run with the same step.
    last = max(metric.step for metric in history)
    before = [metric.step for metric in history if metric.step < last]
    experiments = [one.experiment_id for one in client.search_experiments()]
    return {
        "MLflow steps": len(set(before)) + 1,
        "MLflow rows twice": len(before) - len(set(before)),
        "MLflow model versions": len(client.search_model_versions()),
        "MLflow runs": len(client.search_runs(experiments)),
        "MLflow status": client.get_run(run_id).info.status,
    }


if __name__ == "__main__":
    sys.exit(main())
