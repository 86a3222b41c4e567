"""Runs and sweeps whose process was killed: found by their locks, and closed in MLflow."""

from __future__ import annotations

from pathlib import Path

from factory.diagnosis.finding import Finding, Status
from factory.tracking import TrackingConfig, close_killed_run
from factory.training import run_lock, sweep


def close(output_root: Path, tracking: TrackingConfig) -> list[Finding]:
    """Set the runs under `output_root` whose process is gone from RUNNING to KILLED; report each one."""
    findings: list[Finding] = []
    for folder in sweep.close_killed(tracking, output_root):
        text = f"{folder}: the process of this sweep was killed; its MLflow run is closed as KILLED"
        findings.append(_finding("killed sweep", text, remedy="start the jobs that are missing"))
    for folder in run_lock.abandoned(output_root):
        if sweep.is_sweep(folder):
            continue
        text = f"{folder}: its process was killed"
        if close_killed_run(tracking, folder, output_root=output_root):
            text += "; its MLflow run is closed as KILLED"
        findings.append(_finding("killed run", text, remedy=f"go on with resume={folder}"))
    return findings


def _finding(name: str, text: str, *, remedy: str) -> Finding:
    return Finding(section="tracking", name=name, status=Status.LIMITED, text=text, remedy=remedy)
