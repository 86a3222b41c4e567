"""Tracking with files only, all of them in the run folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write
from factory.tracking.base import Tracker, flatten

log = logging.getLogger("factory.tracking")


class JsonlTracker(Tracker):
    """Keep parameters, tags and status in `run.json`, beside the `metrics.jsonl` that every run has.

    Metrics, artifacts and the exported policy already lie in the run folder, so nothing is done for them.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        experiment: str,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> None:
        """Start a record, or continue the one in `run_dir` and keep its parameters."""
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = run_dir / "run.json"
        fresh: dict[str, Any] = {"started_unix_s": time.time(), "params": {}, "tags": {}}
        self._record: dict[str, Any] = self._read() or fresh
        # As in MLflow, the parameters of a run never change; a resumed run only adds missing ones.
        self._record.update(experiment=experiment, run_name=run_name, status="running")
        self._record["params"] = {**dict(flatten(params)), **self._record["params"]}
        self.set_tags(tags)

    def _read(self) -> dict[str, Any] | None:
        """Return the record of an earlier process; None if there is none, or a damaged one."""
        if not self._path.exists():
            return None
        try:
            record = stored_files.read_json(self._path)
        except ValueError:
            record = None
        if isinstance(record, dict) and all(isinstance(record.get(key), dict) for key in ("params", "tags")):
            return record
        log.warning("%s is damaged; a new one is written", self._path)
        return None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing: the training job writes the row to `metrics.jsonl`."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or overwrite tags of the run."""
        self._record["tags"].update(tags)
        self._write()

    def close(self, status: str = "finished") -> None:
        """Write the final status of the run."""
        self._record.update(status=status, ended_unix_s=time.time())
        self._write()

    def _write(self) -> None:
        # The whole record each time: it is small, and a kill in mid-write leaves the previous one.
        with atomic_write(self._path) as unfinished:
            unfinished.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")
