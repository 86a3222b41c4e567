"""Experiment tracking: `open_tracker` gives the loop a tracker, a null object if need be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.tracking.base import Tracker
from factory.tracking.config import TrackingConfig
from factory.tracking.journal import Journal
from factory.tracking.jsonl import JsonlTracker
from factory.tracking.null import NullTracker
from factory.tracking.store import (
    artifact_location,
    close_parent_run,
    open_parent_run,
    prepare_store,
    resolve_uri,
)

__all__ = [
    "Journal",
    "NullTracker",
    "Tracker",
    "TrackingConfig",
    "close_parent_run",
    "open_parent_run",
    "open_tracker",
    "prepare_store",
]


def open_tracker(
    cfg: TrackingConfig,
    *,
    run_dir: Path,
    output_root: Path,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    resume_run_id: str | None = None,
    parent_run_id: str | None = None,
) -> Tracker:
    """Open the tracker that the config names.

    Args:
        cfg: The `tracking` config group.
        run_dir: The run's own folder.
        output_root: Folder of all runs, which holds `mlflow.db` unless `cfg.uri` says otherwise.
        experiment: Name of the experiment.
        run_name: Name of the run.
        params: Resolved configuration, nested as it is.
        tags: Tags of the run.
        resume_run_id: Run to go on with, from the checkpoint.
        parent_run_id: Run of the sweep that this one belongs to, from `open_parent_run`.

    Raises:
        ValueError: If the tracking server answers but refuses the run.
    """
    if cfg.kind == "null":
        return NullTracker()
    if cfg.kind == "jsonl":
        return JsonlTracker(run_dir, experiment=experiment, run_name=run_name, params=params, tags=tags)
    from factory.tracking.mlflow import MlflowTracker

    uri = resolve_uri(cfg, output_root=output_root)
    return MlflowTracker(
        uri=uri,
        artifacts=artifact_location(uri, output_root=output_root, experiment=experiment),
        run_dir=run_dir,
        experiment=experiment,
        run_name=run_name,
        params=params,
        tags={**tags, **({"mlflow.parentRunId": parent_run_id} if parent_run_id else {})},
        resume_run_id=resume_run_id,
        system_metrics=cfg.system_metrics,
    )
