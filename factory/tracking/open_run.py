"""A run that exists in MLflow: its metrics, tags, files, models and end."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from factory.tracking.logged_rows import LoggedRows
from factory.tracking.model import register_policy
from factory.tracking.sender import RefusedError
from factory.tracking.store import MAX_TAG_CHARS
from factory.tracking.updates import Update

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger("factory.tracking")

MAX_METRICS_A_BATCH = 1000
"""Limit of MLflow's REST API for `log_batch`."""


class OpenRun:
    """A run that exists in MLflow."""

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        *,
        run_dir: Path,
        logged_rows: LoggedRows | None = None,
        system_metrics: bool = False,
    ) -> None:
        """Write to `run_id` through `client`.

        Args:
            client: connection to the store.
            run_id: MLflow's id of the run.
            run_dir: run folder; no file outside it is sent.
            logged_rows: rows that an earlier process has sent and that are left out; None sends all.
            system_metrics: sample `system/` metrics.
        """
        self._client = client
        self._run_id = run_id
        self._run_dir = run_dir
        self._logged_rows = logged_rows
        self._system_metrics = system_metrics
        self._monitor: SystemMetricsMonitor | None = None
        self._monitor_thread: threading.Thread | None = None

    def send(self, updates: list[Update]) -> int:
        """Send the first update, or the rows of metrics at the front in one batch; return how many."""
        first = updates[0]
        match first["kind"]:
            case "metrics":
                return self._send_metrics(updates)
            case "tags":
                self._send_tags(first)
            case "artifacts":
                self._send_artifacts(first)
            case "policy":
                self._send_policy(first)
            case "end":
                self.stop_monitor()
                self._client.set_terminated(self._run_id, first["status"], end_time=first["time_ms"])
        return 1

    def keep_monitor(self, *, resumed: bool) -> None:
        """Start the system metrics, again if they stopped because the store was unreachable."""
        # MLflow's monitor ends its thread after some failed attempts and does not report it.
        if not self._system_metrics or (self._monitor_thread and self._monitor_thread.is_alive()):
            return
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            uri = self._client.tracking_uri
            self._monitor = SystemMetricsMonitor(self._run_id, resume_logging=resumed, tracking_uri=uri)
        except ImportError as error:
            self._system_metrics = False
            log.warning("no system metrics: %s (install psutil or set tracking.system_metrics=false)", error)
            return
        self._monitor.start()
        # MLflow offers no other way to see whether the thread is alive.
        self._monitor_thread = self._monitor._process

    def stop_monitor(self) -> None:
        """End the system metrics, sending their last samples."""
        self._system_metrics = False
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None

    def _send_metrics(self, updates: list[Update]) -> int:
        from mlflow.entities import Metric

        # Whole rows of metrics up to the first other update: the order of updates is kept.
        batch: list[Metric] = []
        rows = 0
        for row in updates:
            if row["kind"] != "metrics":
                break
            # The first row goes in any case, however long it is.
            is_full = len(batch) + len(row["metrics"]) > MAX_METRICS_A_BATCH
            if rows and is_full:
                break
            if self._logged_rows is None or row not in self._logged_rows:
                batch += [
                    Metric(key, value, row["time_ms"], row["step"]) for key, value in row["metrics"].items()
                ]
            rows += 1
        if batch:
            self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
        self.keep_monitor(resumed=True)
        return rows

    def _send_tags(self, update: Update) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value[:MAX_TAG_CHARS]) for key, value in update["tags"].items()]
        self._client.log_batch(self._run_id, tags=tags, synchronous=True)

    def _send_artifacts(self, update: Update) -> None:
        path = self._own_file(update["path"])
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), update["artifact_path"])
        else:
            self._client.log_artifact(self._run_id, str(path), update["artifact_path"])

    def _send_policy(self, policy: Update) -> None:
        register_policy(
            self._client,
            run_id=self._run_id,
            exported=self._own_file(policy["path"]),
            name=policy["name"],
            alias=policy["alias"],
            metrics=policy["metrics"],
            step=policy["step"],
        )

    def _own_file(self, name: str) -> Path:
        """Return a file or folder of the run folder.

        Raises:
            RefusedError: it is gone, or it, or a file in it, is a link out of the run folder or no file.
        """
        path = self._run_dir / name
        try:
            if not path.exists():
                raise RefusedError(f"{path} is gone")
            own = self._run_dir.resolve()
            for part in (path, *path.rglob("*")):
                if not part.resolve().is_relative_to(own):
                    raise RefusedError(f"{part} leads out of the run folder")
                if not part.is_file() and not part.is_dir():
                    raise RefusedError(f"{part} is neither a file nor a folder")
        except (OSError, RuntimeError) as error:
            # A name that is too long, or links in a circle: it will not get better.
            raise RefusedError(f"{path}: {error}") from error
        return path
