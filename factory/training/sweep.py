"""Sweeps: the store is made before the first job starts, and the jobs' runs appear under one parent run."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from factory import tracking
from factory.config import label
from factory.tracking import TrackingConfig

_VARIABLE = "FACTORY_PARENT_RUN_ID"
"""Carries the parent run to the jobs, also to those a launcher starts in other processes."""


def parent_run_id() -> str | None:
    """Return the MLflow run of the sweep this process works for, None outside a sweep."""
    return os.environ.get(_VARIABLE)


class SweepLedger(Callback):
    """Hydra callback around a multirun.

    Hydra calls `on_multirun_end` only if every job succeeded; the parent run of the others is closed at exit.
    """

    _run_id: str | None = None
    _status = "interrupted"

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the store and open the parent run."""
        self._cfg, self._output_root = _settings(config)
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
            os.environ[_VARIABLE] = self._run_id
            atexit.register(self.close)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Remember that a job failed."""
        if job_return.status is JobStatus.FAILED:
            self._status = "failed"

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Close the parent run as finished."""
        self._status = "finished"
        self.close()

    def close(self) -> None:
        """Close the parent run, once."""
        if self._run_id is not None:
            os.environ.pop(_VARIABLE, None)
            tracking.close_parent_run(
                self._cfg, self._run_id, output_root=self._output_root, status=self._status
            )
            self._run_id = None


def _settings(config: DictConfig) -> tuple[TrackingConfig, Path]:
    cfg: Any = OmegaConf.to_object(config.tracking)
    return cfg, Path(config.output_root).absolute()
