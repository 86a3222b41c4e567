"""The ids of a run in MLflow, kept in its run folder. Loads no MLflow."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write

if TYPE_CHECKING:
    from mlflow.entities import Run

IDS_FILE = "tracking.json"
"""File in the run folder with the URI of the store and the ids of the run there."""
RUN_KEY_TAG = "factory.run_key"
"""Tag with a random key of our own, by which a run and its folder recognise each other."""
_FORMS = {"run_id": re.compile(r"[A-Za-z0-9_-]{1,64}"), "run_key": re.compile(r"[0-9a-f]{32}")}
_ANY_TEXT = re.compile(r".*", re.DOTALL)


def read_ids(run_dir: Path) -> dict[str, str]:
    """Return URI, run id and run key of a run folder; those that are missing or damaged are left out."""
    try:
        saved = stored_files.read_json(run_dir / IDS_FILE)
    except ValueError:
        return {}
    if not isinstance(saved, dict):
        return {}
    texts = {key: value for key, value in saved.items() if isinstance(value, str)}
    # Ids become parts of queries and addresses.
    return {key: value for key, value in texts.items() if _FORMS.get(key, _ANY_TEXT).fullmatch(value)}


def is_own_run(run: Run, run_key: str | None) -> bool:
    """Return True if a run of MLflow carries the key of a run folder.

    A folder may come from anybody and name any run; only its own one has its key.
    """
    return bool(run_key) and run.data.tags.get(RUN_KEY_TAG) == run_key


def save_ids(run_dir: Path, *, uri: str, run_id: str | None, run_key: str) -> None:
    """Write the ids of a run; `run_id` is None before the store has told it."""
    ids = {"uri": uri, "run_id": run_id, "run_key": run_key}
    with atomic_write(run_dir / IDS_FILE) as unfinished:
        unfinished.write_text(json.dumps(ids) + "\n", encoding="utf-8")
