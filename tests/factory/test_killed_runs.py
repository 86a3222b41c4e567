"""Runs that were killed with kill -9, as the doctor finds and closes them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import psutil
import pytest

from factory.diagnosis import killed_runs
from factory.tracking import TrackingConfig, open_tracker
from factory.tracking.store import connect


@pytest.mark.parametrize(("is_alive", "status"), [(False, "KILLED"), (True, "RUNNING")])
def test_run_of_a_dead_process_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_alive: bool, status: str
) -> None:
    """Its MLflow run becomes KILLED; that of a process that is alive stays as it is."""
    # `mlflow.set_tracking_uri` of an earlier test leaves this variable, which would be followed.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cfg = TrackingConfig(system_metrics=False)
    run_dir = tmp_path / "task" / "run"
    open_tracker(
        cfg, run_dir=run_dir, output_root=tmp_path, experiment="task", run_name="run", params={}, tags={}
    )
    started = psutil.Process().create_time() if is_alive else 1.0
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
    (run_dir / ".lock").write_text(json.dumps(owner))
    findings = killed_runs.close(tmp_path, cfg)
    assert len(findings) == (0 if is_alive else 1)
    run_id = json.loads((run_dir / "tracking.json").read_text())["run_id"]
    assert connect(f"sqlite:///{tmp_path}/mlflow.db").get_run(run_id).info.status == status
    # A second look finds a run that is closed already.
    for finding in killed_runs.close(tmp_path, cfg):
        assert "KILLED" not in finding.text
