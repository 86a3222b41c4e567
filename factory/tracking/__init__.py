"""Experiment tracking: `open_tracker` returns the tracker of a run, a null object if there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.tracking.base import Tracker
from factory.tracking.config import TrackingConfig
from factory.tracking.journal import Journal
from factory.tracking.jsonl import JsonlTracker
from factory.tracking.killed import close_killed_run, note_parent_run
from factory.tracking.null import NullTracker
from factory.tracking.store import (
    artifact_location,
    close_parent_run,
    open_parent_run,
    prepare_store,
)
from factory.tracking.uri import check_store, environment_note, resolve_uri, sqlite_path

__all__ = [
    "Journal",
    "NullTracker",
    "Tracker",
    "TrackingConfig",
    "check_store",
    "close_killed_run",
    "close_parent_run",
    "environment_note",
    "note_parent_run",
    "open_parent_run",
    "open_tracker",
    "prepare_store",
    "sqlite_path",
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
    """Open the tracker that the configuration selects.

    Args:
        cfg: The `tracking` config group.
        run_dir: The run's own folder.
        output_root: Folder of all runs, which contains `mlflow.db` unless `cfg.uri` is set.
        experiment: Name of the experiment.
        run_name: Name of the run.
        params: Resolved configuration, nested.
        tags: Tags of the run.
        resume_run_id: Run to continue, from the checkpoint.
        parent_run_id: Run of the sweep that contains this one, from `open_parent_run`.

    Raises:
        ValueError: If the tracking server answers but refuses the run.
    """
    if cfg.kind == "null":
        return NullTracker()
    if cfg.kind == "jsonl":
        return JsonlTracker(run_dir, experiment=experiment, run_name=run_name, params=params, tags=tags)
    # Imported here: MLflow takes seconds to load, and the other trackers do without it.
    from factory.tracking.mlflow import MlflowTracker

    uri = resolve_uri(cfg, output_root=output_root)
    all_tags = dict(tags)
    # MLflow's UI shows runs with this tag below their parent.
    if parent_run_id:
        all_tags["mlflow.parentRunId"] = parent_run_id
    return MlflowTracker(
        uri=uri,
        artifacts=artifact_location(uri, output_root=output_root, experiment=experiment),
        run_dir=run_dir,
        experiment=experiment,
        run_name=run_name,
        params=params,
        tags=all_tags,
        resume_run_id=resume_run_id,
        system_metrics=cfg.system_metrics,
    )
