"""The MLflow side of a run: find or create it, then send the updates of the outbox."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from factory.tracking.model import register_policy
from factory.tracking.outbox import Update
from factory.tracking.sender import RefusedError
from factory.tracking.store import MAX_TAG_CHARS, connect, ensure_experiment, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger("factory.tracking")

MAX_METRICS_A_BATCH = 1000
"""Limit of MLflow's REST API for `log_batch`."""
RUN_KEY_TAG = "factory.run_key"
"""Tag with a key of our own, by which a run is found if the answer to its creation got lost."""


class Delivery:
    """Deliver the updates of one run to MLflow; everything happens in the sender's thread.

    Delivery is at least once. All updates but the registration of a policy are idempotent: MLflow ignores a
    metric that it already has with this key, step, time and value, and a run is found again by its key.
    """

    def __init__(
        self,
        *,
        uri: str,
        artifacts: str | None,
        experiment: str,
        run_dir: Path,
        resume_run_id: str | None,
        system_metrics: bool,
    ) -> None:
        """Keep the destination; see `MlflowTracker` for the arguments."""
        self._uri = uri
        self._artifacts = artifacts
        self._experiment = experiment
        self._system_metrics = system_metrics
        self._run: OpenRun | None = None
        self._state_path = run_dir / "tracking.json"
        saved: dict[str, str] = {}
        if self._state_path.exists():
            saved = json.loads(self._state_path.read_text())
        # Ids of another store mean nothing in this one.
        if saved.get("uri") != shown(uri):
            saved = {}
        # The key is saved before the run exists: a kill in between must not create a second run.
        self._run_key = saved.get("run_key") or uuid.uuid4().hex
        self.run_id: str | None = resume_run_id or saved.get("run_id")
        self._save_state()

    def __call__(self, updates: list[Update]) -> int:
        """Deliver the first update, or all rows of metrics at the front at once; return the number.

        Raises:
            RefusedError: If MLflow will never take the first update.
        """
        from mlflow.exceptions import MlflowException

        at_start = updates[0]["kind"] == "start"
        try:
            if at_start:
                self._start(updates[0])
                return 1
            # Updates that an earlier process could not send come before the start of this one.
            if self._run is None and self.run_id is not None:
                self._run = OpenRun(connect(self._uri), self.run_id)
            # Without a run, its start was refused; the updates that follow are dropped one by one.
            if self._run is None:
                return 1
            return self._run.send(updates)
        except MlflowException as error:
            if _is_hopeless(error, at_start=at_start):
                raise RefusedError(" ".join(error.message.split())[:300]) from error
            raise

    def stop_monitor(self) -> None:
        """End the system metrics, sending their last samples."""
        if self._run is not None:
            self._run.stop_monitor()

    def _start(self, start: Update) -> None:
        """Open the run, new or resumed, and log its tags and missing parameters."""
        from mlflow.entities import Param, RunTag

        client = connect(self._uri)
        try:
            experiment_id = ensure_experiment(client, self._experiment, location=self._artifacts)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        start["tags"][RUN_KEY_TAG] = self._run_key
        # The run of the checkpoint may be gone from the store, e.g. if its database was deleted.
        resumed = self.run_id is not None and self._reopen(client, self.run_id)
        if not resumed:
            self.run_id = self._find_or_create(client, experiment_id, start)
            self._save_state()
        assert self.run_id is not None
        # Parameters are immutable in MLflow: sending one again with another value fails the whole batch.
        known = client.get_run(self.run_id).data.params
        client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in start["params"].items() if key not in known],
            tags=[RunTag(key, value) for key, value in start["tags"].items()],
            synchronous=True,
        )
        # A run that was opened for older updates ends here, with its monitor.
        self.stop_monitor()
        self._run = OpenRun(client, self.run_id, system_metrics=self._system_metrics)
        self._run.keep_monitor(resumed=resumed)

    def _reopen(self, client: MlflowClient, run_id: str) -> bool:
        """Set the run to RUNNING again; return False if the store does not have it."""
        from mlflow.exceptions import MlflowException

        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            log.warning("MLflow run %s is not in %s; a new run is started", run_id, shown(self._uri))
            return False
        return True

    def _find_or_create(self, client: MlflowClient, experiment_id: str, start: Update) -> str:
        """Return the run with our key, which an unanswered request may have created, or a new run."""
        key_filter = f"tags.`{RUN_KEY_TAG}` = '{self._run_key}'"
        if found := client.search_runs([experiment_id], key_filter, max_results=1):
            return str(found[0].info.run_id)
        run = client.create_run(
            experiment_id, start_time=start["time_ms"], run_name=start["run_name"], tags=start["tags"]
        )
        return str(run.info.run_id)

    def _save_state(self) -> None:
        state = {"uri": shown(self._uri), "run_id": self.run_id, "run_key": self._run_key}
        self._state_path.write_text(json.dumps(state) + "\n", encoding="utf-8")


class OpenRun:
    """A run that exists in MLflow."""

    def __init__(self, client: MlflowClient, run_id: str, *, system_metrics: bool = False) -> None:
        """Write to `run_id` through `client`."""
        self._client = client
        self._run_id = run_id
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
            batch += [
                Metric(key, value, row["time_ms"], row["step"]) for key, value in row["metrics"].items()
            ]
            rows += 1
        self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
        self.keep_monitor(resumed=True)
        return rows

    def _send_tags(self, update: Update) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value[:MAX_TAG_CHARS]) for key, value in update["tags"].items()]
        self._client.log_batch(self._run_id, tags=tags, synchronous=True)

    def _send_artifacts(self, update: Update) -> None:
        path = _existing(update["path"])
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), update["artifact_path"])
        else:
            self._client.log_artifact(self._run_id, str(path), update["artifact_path"])

    def _send_policy(self, policy: Update) -> None:
        register_policy(
            self._client,
            run_id=self._run_id,
            exported=_existing(policy["path"]),
            name=policy["name"],
            alias=policy["alias"],
            metrics=policy["metrics"],
            step=policy["step"],
        )


def _is_hopeless(error: MlflowException, *, at_start: bool) -> bool:
    """Return True for a faulty update (or, at the start, a refused sender), False for an unhealthy store."""
    # 408 is a timeout and 429 a rate limit: both pass. Other 4xx at the start are wrong credentials.
    status = error.get_http_status_code()
    refused_sender = at_start and 400 < status < 500 and status not in (408, 429)
    return status == 400 or error.error_code == "RESOURCE_DOES_NOT_EXIST" or refused_sender


def _existing(path: str) -> Path:
    if not Path(path).exists():
        raise RefusedError(f"{path} is gone")
    return Path(path)
