"""Tracking with MLflow, on a database file or a server, through an outbox that survives their failures."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.tracking.base import Tracker, flatten
from factory.tracking.credentials import shown
from factory.tracking.delivery import Delivery
from factory.tracking.headline import headline_note
from factory.tracking.model import model_name
from factory.tracking.outbox import Outbox
from factory.tracking.sender import Sender
from factory.tracking.store import MAX_TAG_CHARS, import_mlflow_quietly, source_tags
from factory.tracking.updates import MLFLOW_STATUS, Update

log = logging.getLogger("factory.tracking")

MAX_PARAM_CHARS = 6000
"""MLflow's limit for the value of a parameter."""
OPEN_WAIT_S = 10.0
"""Longest wait for a slow store when a run is opened; training then starts without a run id."""
NOTE_TAG = "mlflow.note.content"


class MlflowTracker(Tracker):
    """Queue of updates in the run folder's `tracking_pending.jsonl`; one thread sends them to MLflow."""

    def __init__(
        self,
        *,
        uri: str,
        artifacts: str | None,
        run_dir: Path,
        experiment: str,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        resume_run_id: str | None = None,
        system_metrics: bool = True,
    ) -> None:
        """Open or resume the run; an unreachable store is tried again later.

        Args:
            uri: Absolute tracking URI.
            artifacts: Absolute URI for the artifacts of a new experiment; None if the server decides.
            run_dir: The run's folder, which also holds the outbox and the run's ids, `tracking.json`.
            experiment: Name of the experiment.
            run_name: Name of a new run.
            params: Nested configuration; MLflow's are immutable, so a resumed run gets only keys it lacks.
            tags: Tags of the run.
            resume_run_id: Run to continue; None takes the one in `run_dir`, if any, or a new one.
            system_metrics: Sample `system/` metrics.

        Raises:
            ValueError: If the store answers but refuses the run: wrong password, deleted experiment.
        """
        import_mlflow_quietly()
        self._run_dir = run_dir
        self._tags = dict(tags)
        self._latest: dict[str, float] = {}
        self._step = 0
        # The latest row of metrics, if it was held back to limit the cost.
        self._held: Update | None = None
        outbox = Outbox(run_dir / "tracking_pending.jsonl")
        # The name in it would be that of any model, if the folder is a stranger's.
        if outbox.leave_out("policy"):
            log.warning("%s: the registration of a policy is left out; this run makes its own", outbox.path)
        self._delivery = Delivery(
            uri=uri,
            artifacts=artifacts,
            experiment=experiment,
            run_dir=run_dir,
            resume_run_id=resume_run_id,
            system_metrics=system_metrics,
        )
        self._sender = Sender(outbox, self._delivery, server=f"MLflow at {shown(uri)}")
        # Cut to MLflow's limits: one value that is too long would make the server refuse the whole run.
        flat = {key[:250]: value[:MAX_PARAM_CHARS] for key, value in flatten(params)}
        own = {key: str(value)[:MAX_TAG_CHARS] for key, value in {**source_tags(tags), **tags}.items()}
        self._put("start", run_name=run_name, params=flat, tags=own)
        for refusal in self._sender.start(wait_s=OPEN_WAIT_S):
            # A refused start is a user error; other refusals concern leftovers of an earlier process.
            if self.run_id is None:
                self._sender.close()
                raise ValueError(f"tracking.uri={shown(uri)}: {refusal}")
            log.warning("MLflow refused an update of the earlier run, which is dropped: %s", refusal)

    @property
    def run_id(self) -> str | None:
        """Run id in MLflow; None until the store has been reached."""
        return self._delivery.run_id

    @property
    def spent_s(self) -> float:
        """Time that tracking has taken from training since the run was opened [s]."""
        return self._sender.spent_s

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue the finite metrics of an iteration.

        NaN and infinity are left out: MLflow would store infinity as 1.8e308 and spoil the chart's scale.
        If rows arrive faster than 1 % of the elapsed time can send them, some are skipped, but never the
        last; `metrics.jsonl` has them all.
        """
        row = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        self._latest.update(row)
        self._step = int(step)
        update: Update = {"kind": "metrics", "time_ms": _now_ms(), "step": self._step, "metrics": row}
        if self._sender.can_afford_one_more():
            self._held = None
            self._sender.put(update)
        else:
            self._held = update

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags."""
        self._tags.update(tags)
        self._put("tags", tags={key: str(value) for key, value in tags.items()})

    def log_artifacts(self, path: Path, artifact_path: str | None = None) -> None:
        """Queue a file or folder of the run folder; it is read when it is sent."""
        self._put("artifacts", path=self._inner(path), artifact_path=artifact_path)

    def log_policy(
        self,
        exported: Path,
        *,
        registered_name: str,
        alias: str = "latest",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Queue the registration of an exported policy; `models:/<name>@latest` then loads it."""
        finite = {key: float(value) for key, value in (metrics or {}).items() if math.isfinite(value)}
        name = model_name(registered_name)
        path = self._inner(exported)
        self._put("policy", path=path, name=name, alias=alias, metrics=finite, step=self._step)

    def close(self, status: str = "finished") -> None:
        """Send the rest, write the headline into the run's description and end the run."""
        try:
            # The last metrics are always sent.
            if self._held is not None:
                self._sender.put(self._held)
            # A description that the user gave stays.
            if NOTE_TAG not in self._tags and (note := headline_note(self._latest, self._tags)):
                self._put("tags", tags={NOTE_TAG: note})
            self._put("end", status=MLFLOW_STATUS[status])
        finally:
            self._sender.close()
            # Delivering the end stops the monitor; if it was not delivered, the monitor still runs.
            self._delivery.stop_monitor()

    def _inner(self, path: Path) -> str:
        """Return a path relative to the run folder, so that a folder that was moved can still be sent."""
        return path.absolute().relative_to(self._run_dir.absolute()).as_posix()

    def _put(self, kind: str, **content: Any) -> None:
        self._sender.put({"kind": kind, "time_ms": _now_ms(), **content})


def _now_ms() -> int:
    return int(time.time() * 1000)
