"""Storage of runs: output folder, disk, MLflow's store. Nothing is created or migrated."""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from importlib import metadata
from pathlib import Path

from factory.diagnosis import privacy
from factory.diagnosis.finding import Finding, Status
from factory.tracking.config import TrackingConfig
from factory.tracking.credentials import shown
from factory.tracking.uri import resolve_uri, sqlite_path

_LITTLE_BYTES = 1_000_000_000
"""Free space below which a run may not finish: some checkpoints, videos and artifacts, twice (MLflow keeps
copies).
"""
_TIMEOUT_S = 5.0


def examine(output_root: Path, tracking: TrackingConfig) -> list[Finding]:
    """Check the folder of runs and the experiment tracker."""
    # A folder that does not exist yet will be created inside the innermost one that does.
    root = output_root.absolute()
    existing = next(path for path in (root, *root.parents) if path.exists())
    return [
        _output(root, existing),
        *privacy.examine(root),
        _disk(existing),
        _store(tracking, output_root),
    ]


def _output(output_root: Path, existing: Path) -> Finding:
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        text = f"{output_root} is writable"
        if existing != output_root:
            text += ", created by the first run"
        return _finding("output", Status.OK, text)
    remedy = "give output_root=<another folder>, or make this one yours"
    return _finding("output", Status.MISSING, f"{existing} is not a folder that can be written to", remedy)


def _disk(folder: Path) -> Finding:
    # Of the file system that holds the folder; quotas of a user are not visible here.
    free_bytes = shutil.disk_usage(folder).free
    text = f"{free_bytes * 1e-9:.1f} GB free at {folder}"
    facts = {"free_bytes": free_bytes}
    if free_bytes >= _LITTLE_BYTES:
        return Finding(section="tracking", name="disk", status=Status.OK, text=text, facts=facts)
    remedy = "free space, or give output_root=<another disk>"
    return Finding(
        section="tracking", name="disk", status=Status.LIMITED, text=text, remedy=remedy, facts=facts
    )


def _store(tracking: TrackingConfig, output_root: Path) -> Finding:
    if tracking.kind != "mlflow":
        text = f"tracking.kind={tracking.kind}: runs are not written to MLflow"
        return _finding("MLflow store", Status.LIMITED, text, "tracking=mlflow")
    uri = resolve_uri(tracking, output_root=output_root)
    client = f"MLflow {metadata.version('mlflow')}"
    if uri.startswith("http"):
        return _server(shown(uri), client)
    database = sqlite_path(uri)
    # Connecting to a database server through MLflow would migrate its schema.
    if database is None:
        text = f"{shown(uri)} is not contacted, to change nothing ({client})"
        return _finding("MLflow store", Status.OK, f"{text}; a run goes on without it and delivers later")
    return _database(database, client)


def _database(database: Path, client: str) -> Finding:
    if not database.exists():
        return _finding("MLflow store", Status.OK, f"{database} is made by the first run ({client})")
    # Opened read-only with SQLite itself, since MLflow would create or migrate the schema.
    try:
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT_S)
        ) as opened:
            (runs,) = opened.execute("SELECT COUNT(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        remedy = "move the file away, or give tracking.uri=sqlite:///<another file>"
        return _finding(
            "MLflow store", Status.MISSING, f"{database} does not read as MLflow's: {error}", remedy
        )
    if not os.access(database, os.W_OK):
        remedy = f"make {database} writable, or give tracking.uri=sqlite:///<another file>"
        return _finding("MLflow store", Status.LIMITED, f"{database} may be read, not written", remedy)
    return _finding("MLflow store", Status.OK, f"{database} holds {runs} runs ({client})")


def _server(uri: str, client: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT_S):
            return _finding("MLflow store", Status.OK, f"{uri} answers ({client})")
    # Any answer shows that a server is there; old ones and proxies may not know `/health`.
    except urllib.error.HTTPError as error:
        return _finding("MLflow store", Status.OK, f"{uri} answers with HTTP status {error.code} ({client})")
    except (OSError, ValueError) as error:
        text = f"{uri} does not answer: {error}; a run goes on without it, and delivers when it is back"
        return _finding(
            "MLflow store", Status.LIMITED, text, "start the server, or check name, port and proxy"
        )


def _finding(name: str, status: Status, text: str, remedy: str = "") -> Finding:
    return Finding(section="tracking", name=name, status=status, text=text, remedy=remedy)
