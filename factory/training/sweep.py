"""Sweeps: jobs run one after the other under one parent run, and a failed one does not stop the others."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from factory import tracking
from factory.config import TrainConfig, label
from factory.tracking import TrackingConfig
from factory.training import run_lock

_PARENT = "FACTORY_PARENT_RUN_ID"
"""Environment variable with the parent run, which also reaches jobs in other processes."""
_NUM_JOBS = "FACTORY_SWEEP_JOBS"
"""Environment variable with the number of jobs, which Hydra does not pass to its callbacks."""
_failed: list[int] = []
"""Numbers of the jobs of this process that failed."""


def parent_run_id() -> str | None:
    """Return the MLflow run of the sweep this process works for, None outside a sweep."""
    return os.environ.get(_PARENT)


def announce_jobs(count: int) -> None:
    """Keep the number of jobs of the sweep that starts."""
    os.environ[_NUM_JOBS] = str(count)


def forget() -> None:
    """Forget an earlier sweep of this process, before a job of its own."""
    os.environ.pop(_NUM_JOBS, None)
    _failed.clear()


def is_running() -> bool:
    """Return whether this process works for a sweep."""
    return _NUM_JOBS in os.environ


def record_failure(job: int) -> None:
    """Count a job as failed; its message is already on stderr."""
    _failed.append(job)


def has_failed() -> bool:
    """Return whether a job of this process failed."""
    return bool(_failed)


def fixed_folder(overrides: Sequence[str], swept: Sequence[str], first: TrainConfig) -> list[str]:
    """Return the override that puts all jobs of a sweep into one folder.

    Hydra would work out the folder for every job, and a sweep over tasks or environments would end up in
    several.

    Args:
        overrides: overrides of the sweep; nothing is added if they choose the folder.
        swept: keys with several values.
        first: configuration of the first job.
    """
    if any(override.startswith("hydra.sweep.dir=") for override in overrides):
        return []
    # Two sweeps may start in the same second, hence the random digits.
    name = datetime.now().strftime("sweep_%Y-%m-%d_%H-%M-%S_") + os.urandom(2).hex()
    folder = Path(first.output_root)
    # Jobs of different tasks share no folder of a task.
    if not {"task", "env_id", "experiment"} & set(swept):
        folder = folder / label(first)
    escaped = str(folder / name).replace("'", "\\'")
    return [f"hydra.sweep.dir='{escaped}'"]


class SweepTracker(Callback):
    """Hydra callback around a multirun: opens the parent run, counts jobs, and shows a table at the end."""

    _run_id: str | None = None
    _status = "interrupted"
    _lock: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the store and open the parent run."""
        self._cfg, self._output_root = _settings(config)
        self._jobs: list[tuple[str, Path]] = []
        # Overrides of the sweep as a whole; a job's own ones are those that differ.
        self._shared = set(config.hydra.overrides.task)
        _failed.clear()
        close_killed(self._cfg, self._output_root)
        experiment = label(config)
        tracking.prepare_store(self._cfg, output_root=self._output_root, experiment=experiment)
        self._run_id = tracking.open_parent_run(
            self._cfg,
            output_root=self._output_root,
            experiment=experiment,
            run_name=Path(config.hydra.sweep.dir).name,
            tags={"overrides": " ".join(config.hydra.overrides.task)},
        )
        if self._run_id:
            os.environ[_PARENT] = self._run_id
            self._note_run(Path(config.hydra.sweep.dir), self._run_id)
            # A sweep that is killed or interrupted must not leave its parent run open.
            atexit.register(self.close)

    def _note_run(self, folder: Path, run_id: str) -> None:
        """Leave in the sweep's folder whose run it is, so that it is closed if this process is killed."""
        folder.mkdir(parents=True, exist_ok=True)
        tracking.note_parent_run(self._cfg, run_id, folder, output_root=self._output_root)
        self._lock = run_lock.locked(folder)
        self._lock.__enter__()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Show which job starts."""
        if not is_running():
            return
        number = config.hydra.job.num + 1
        print(f"job {number} of {os.environ[_NUM_JOBS]}: {self._choice(config)}", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Keep the folder of the job for the table."""
        if is_running():
            self._jobs.append((self._choice(config), Path(config.hydra.runtime.output_dir)))

    def _choice(self, config: DictConfig) -> str:
        """Return the overrides in which a job differs from the others, such as `seed=2`."""
        # Hydra escapes what its grammar gives a meaning, such as the colon of an environment's id.
        plain = [override.replace("\\", "") for override in config.hydra.overrides.task]
        own = [override for override in plain if override not in self._shared]
        return " ".join(own) or "no overrides"

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Close the parent run, and show the results of all jobs with the command that compares them."""
        if has_failed():
            self._status = "failed"
        else:
            self._status = "finished"
        self.close()
        if not self._jobs:
            return
        folder = shlex.quote(str(config.hydra.sweep.dir))
        print(_table(self._jobs))
        print(f"compare them: python -m factory.compare run={folder}", flush=True)

    def close(self) -> None:
        """Close the parent run, once."""
        if self._run_id is not None:
            os.environ.pop(_PARENT, None)
            tracking.close_parent_run(
                self._cfg, self._run_id, output_root=self._output_root, status=self._status
            )
            self._run_id = None
            self._lock.__exit__(None, None, None)


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep, where Hydra writes this file."""
    return (folder / "multirun.yaml").is_file()


def close_killed(cfg: TrackingConfig, output_root: Path) -> list[Path]:
    """Close the parent runs of sweeps whose process was killed; return the folders of these sweeps."""
    closed: list[Path] = []
    for folder in filter(is_sweep, run_lock.abandoned(output_root)):
        if tracking.close_killed_run(cfg, folder, output_root=output_root):
            run_lock.forget(folder)
            closed.append(folder)
    return closed


def _table(jobs: Sequence[tuple[str, Path]]) -> str:
    """Return the results of all jobs in aligned columns."""
    rows = [("job", "status", "return", "seconds", "J", "overrides")]
    for number, (choice, folder) in enumerate(jobs, start=1):
        try:
            # A failed job has no summary.
            summary = json.loads((folder / "summary.json").read_text())
        except (OSError, ValueError):
            rows.append((str(number), "failed", "-", "-", "-", choice))
            continue
        metrics = summary["metrics"]
        keys = ("eval/return_mean", "time/wall_s", "energy/total_j")
        values = ["-"] * len(keys)
        for column, key in enumerate(keys):
            if metrics.get(key) is not None:
                values[column] = f"{metrics[key]:.4g}"
        rows.append((str(number), summary["status"], *values, choice))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _settings(config: DictConfig) -> tuple[TrackingConfig, Path]:
    cfg: Any = OmegaConf.to_object(config.tracking)
    return cfg, Path(config.output_root).absolute()
