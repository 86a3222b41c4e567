"""The MLflow side of a run: find or create it, then send the updates of the outbox."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from factory.tracking.credentials import shown
from factory.tracking.logged_rows import LoggedRows
from factory.tracking.open_run import OpenRun
from factory.tracking.run_ids import RUN_KEY_TAG, is_own_run, read_ids, save_ids
from factory.tracking.sender import RefusedError
from factory.tracking.store import allow_longer_requests, connect, ensure_experiment
from factory.tracking.updates import Update

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

log = logging.getLogger("factory.tracking")


class Delivery:
    """Deliver the updates of one run to MLflow; everything happens in the sender's thread.

    After a kill, updates are delivered once more, and iterations beyond the last checkpoint are made once
    more. Yet MLflow has everything once: it ignores a metric that it has with this key, step, time and value;
    rows of iterations that were made again are left out; a run is found by its key, and a model version by
    run and step.
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
        self._run_dir = run_dir
        saved = read_ids(run_dir)
        # The key is saved before the run exists: a kill in between must not create a second run. It stays the
        # same if the store has moved, since it is random.
        self._run_key = saved.get("run_key") or uuid.uuid4().hex
        if saved.get("uri") != shown(uri):
            # The id of a run in another store means nothing in this one.
            saved = {}
        self.run_id: str | None = resume_run_id or saved.get("run_id")
        self._save_ids()

    def __call__(self, updates: list[Update]) -> int:
        """Deliver the first update, or all rows of metrics at the front at once; return the number.

        Raises:
            RefusedError: If MLflow will never take the first update.
        """
        from mlflow.exceptions import MlflowException
        from requests.exceptions import Timeout

        at_start = updates[0]["kind"] == "start"
        try:
            if at_start:
                self._start(updates[0])
                return 1
            # Updates that an earlier process could not send come before the start of this one.
            if self._run is None and self.run_id is not None:
                self._open_earlier_run(self.run_id)
            # Without a run, its start was refused; the updates that follow are dropped one by one.
            if self._run is None:
                return 1
            return self._run.send(updates)
        except MlflowException as error:
            if any(isinstance(cause, Timeout) for cause in _causes(error)):
                allow_longer_requests()
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

        try:
            client = connect(self._uri)
            experiment_id = ensure_experiment(client, self._experiment, location=self._artifacts)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        start["tags"][RUN_KEY_TAG] = self._run_key
        # The run of the checkpoint may be gone from the store, e.g. if its database was deleted.
        resumed = self.run_id is not None and self._reopen(client, self.run_id)
        if not resumed:
            self.run_id = self._find_or_create(client, experiment_id, start)
            self._save_ids()
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
        rows = LoggedRows(client, self.run_id) if resumed else None
        self._run = OpenRun(
            client,
            self.run_id,
            run_dir=self._run_dir,
            logged_rows=rows,
            system_metrics=self._system_metrics,
        )
        self._run.keep_monitor(resumed=resumed)

    def _open_earlier_run(self, run_id: str) -> None:
        """Open the run for updates of an earlier process, unless it belongs to another folder."""
        client = connect(self._uri)
        if is_own_run(client.get_run(run_id), self._run_key):
            self._run = OpenRun(client, run_id, run_dir=self._run_dir)
        else:
            self._leave(run_id)

    def _leave(self, run_id: str) -> None:
        """Leave the run that the folder names alone."""
        log.warning("MLflow run %s belongs to another run folder; a new run is started", run_id)
        self.run_id = None

    def _reopen(self, client: MlflowClient, run_id: str) -> bool:
        """Set the run to RUNNING again; return False if the store does not have it, or it is another's."""
        from mlflow.exceptions import MlflowException

        try:
            if not is_own_run(client.get_run(run_id), self._run_key):
                self._leave(run_id)
                return False
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

    def _save_ids(self) -> None:
        save_ids(self._run_dir, uri=shown(self._uri), run_id=self.run_id, run_key=self._run_key)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_hopeless(error: MlflowException, *, at_start: bool) -> bool:
    """Return True for a faulty update (or, at the start, a refused sender), False for an unhealthy store."""
    # 408 is a timeout and 429 a rate limit: both pass. Other 4xx at the start are wrong credentials.
    status = error.get_http_status_code()
    refused_sender = at_start and 400 < status < 500 and status not in (408, 429)
    return status == 400 or error.error_code == "RESOURCE_DOES_NOT_EXIST" or refused_sender
