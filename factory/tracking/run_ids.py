"""The ids of a run in MLflow, kept in its run folder. Loads no MLflow."""

from __future__ import annotations

import json
from pathlib import Path

from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write

IDS_FILE = "tracking.json"
"""File in the run folder with the URI of the store and the ids of the run there."""


def read_ids(run_dir: Path) -> dict[str, str]:
    """Return URI, run id and run key of a run folder; those that are missing or damaged are left out."""
    try:
        saved = stored_files.read_json(run_dir / IDS_FILE)
    except ValueError:
        return {}
    if not isinstance(saved, dict):
        return {}
    return {key: value for key, value in saved.items() if isinstance(value, str)}


def save_ids(run_dir: Path, *, uri: str, run_id: str | None, run_key: str) -> None:
    """Write the ids of a run; `run_id` is None before the store has told it."""
    ids = {"uri": uri, "run_id": run_id, "run_key": run_key}
    with atomic_write(run_dir / IDS_FILE) as unfinished:
        unfinished.write_text(json.dumps(ids) + "\n", encoding="utf-8")
