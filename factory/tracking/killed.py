"""Runs whose process was killed: MLflow shows them as running until somebody closes them, or resumes them."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from factory.tracking.config import TrackingConfig
from factory.tracking.credentials import shown
from factory.tracking.run_ids import RUN_KEY_TAG, is_own_run, read_ids, save_ids
from factory.tracking.store import connect, import_mlflow_quietly, tolerating_absence
from factory.tracking.uri import resolve_uri


def note_parent_run(cfg: TrackingConfig, run_id: str, folder: Path, *, output_root: Path) -> None:
    """Leave in a sweep's folder which run is its parent run, for `close_killed_run`."""
    uri = resolve_uri(cfg, output_root=output_root)
    key = uuid.uuid4().hex
    save_ids(folder, uri=shown(uri), run_id=run_id, run_key=key)
    with tolerating_absence("mark the sweep's parent run"):
        connect(uri).set_tag(run_id, RUN_KEY_TAG, key)


def close_killed_run(cfg: TrackingConfig, folder: Path, *, output_root: Path) -> bool:
    """Set the run that a folder names from RUNNING to KILLED; return whether there was one.

    Args:
        cfg: The `tracking` config group.
        folder: Folder of a run or of a sweep.
        output_root: Folder of all runs.
    """
    if cfg.kind != "mlflow":
        return False
    uri = resolve_uri(cfg, output_root=output_root)
    ids = read_ids(folder)
    # Ids of another store mean nothing in this one.
    if ids.get("uri") != shown(uri) or "run_id" not in ids:
        return False
    import_mlflow_quietly()
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        run = client.get_run(ids["run_id"])
        if run.info.status != "RUNNING" or not is_own_run(run, ids.get("run_key")):
            return False
        client.set_terminated(ids["run_id"], "KILLED", end_time=int(time.time() * 1000))
    except (MlflowException, ValueError):
        # A store that is away or unusable is named elsewhere.
        return False
    return True
