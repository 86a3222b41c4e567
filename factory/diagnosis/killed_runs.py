"""Runs whose process was killed: MLflow shows them as running until they are closed here, or resumed."""

from __future__ import annotations

import time
from pathlib import Path

from factory.diagnosis.finding import Finding, Status
from factory.tracking.config import TrackingConfig
from factory.tracking.credentials import shown
from factory.tracking.run_ids import read_ids
from factory.tracking.store import connect, import_mlflow_quietly
from factory.tracking.uri import resolve_uri
from factory.training import run_lock


def close(output_root: Path, tracking: TrackingConfig) -> list[Finding]:
    """Set the runs under `output_root` whose process is gone from RUNNING to KILLED; report each one."""
    uri = resolve_uri(tracking, output_root=output_root)
    findings: list[Finding] = []
    for run_dir in run_lock.abandoned(output_root):
        text = f"{run_dir}: its process was killed"
        ids = read_ids(run_dir)
        # Ids of another store mean nothing in this one.
        is_tracked = tracking.kind == "mlflow" and ids.get("uri") == shown(uri) and "run_id" in ids
        if is_tracked and _close_run(uri, ids["run_id"]):
            text += "; its MLflow run is closed as KILLED"
        remedy = f"go on with resume={run_dir}"
        findings.append(
            Finding(section="tracking", name="killed run", status=Status.LIMITED, text=text, remedy=remedy)
        )
    return findings


def _close_run(uri: str, run_id: str) -> bool:
    """Close a run that MLflow shows as running; return whether there was one."""
    import_mlflow_quietly()
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        if client.get_run(run_id).info.status != "RUNNING":
            return False
        client.set_terminated(run_id, "KILLED", end_time=int(time.time() * 1000))
    except (MlflowException, ValueError):
        # A store that is away or unusable is a finding of its own.
        return False
    return True
