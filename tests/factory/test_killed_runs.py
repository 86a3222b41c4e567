"""Runs that were killed with kill -9, as the doctor finds and closes them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import psutil
import pytest

from factory.diagnosis import killed_runs
from factory.tracking import TrackingConfig, note_parent_run, open_parent_run, open_tracker
from factory.tracking.run_ids import read_ids
from factory.tracking.store import connect


@pytest.mark.parametrize(("is_alive", "status"), [(False, "KILLED"), (True, "RUNNING")])
def test_run_of_a_dead_process_is_closed(tmp_path: Path, is_alive: bool, status: str) -> None:
    """Its MLflow run becomes KILLED; that of a process that is alive stays as it is."""
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


def test_sweep_of_a_dead_process_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent run becomes KILLED, and the next look finds nothing: no one resumes a sweep."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cfg = TrackingConfig()
    folder = tmp_path / "task" / "sweep_1"
    folder.mkdir(parents=True)
    run_id = open_parent_run(cfg, output_root=tmp_path, experiment="task", run_name="sweep")
    assert run_id is not None
    note_parent_run(cfg, run_id, folder, output_root=tmp_path)
    (folder / "multirun.yaml").touch()
    (folder / ".lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 1, "started": 1.0}))
    (finding,) = killed_runs.close(tmp_path, cfg)
    assert "its MLflow run is closed as KILLED" in finding.text
    assert connect(f"sqlite:///{tmp_path}/mlflow.db").get_run(run_id).info.status == "KILLED"
    assert killed_runs.close(tmp_path, cfg) == []


@pytest.mark.parametrize("key", ["x' or tags.a = 'b", "ABC", "0" * 31, "0" * 33, ""])
def test_ids_that_would_change_a_query_are_left_out(tmp_path: Path, key: str) -> None:
    """A key comes from a file and goes into a filter of MLflow, so it is 32 hexadecimal digits."""
    (tmp_path / "tracking.json").write_text(json.dumps({"uri": "u", "run_id": "a/../b", "run_key": key}))
    assert read_ids(tmp_path) == {"uri": "u"}
    (tmp_path / "tracking.json").write_text(
        json.dumps({"run_id": "r" * 32, "run_key": "0123456789abcdef" * 2})
    )
    assert read_ids(tmp_path) == {"run_id": "r" * 32, "run_key": "0123456789abcdef" * 2}
