"""MLflow's store: import, URI, schema, experiment and the parent run of a sweep."""

from __future__ import annotations

import getpass
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from factory.tracking.config import TrackingConfig
from factory.tracking.credentials import redacted, shown
from factory.tracking.database import check_database, create_database, one_at_a_time
from factory.tracking.sender import root_cause
from factory.tracking.updates import MLFLOW_STATUS
from factory.tracking.uri import resolve_uri, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("factory.tracking")

MAX_TAG_CHARS = 8000
"""MLflow's limit for the value of a tag."""

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # This also keeps alembic's migration log off the console.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would retry for minutes inside a call; the outbox retries while the run continues.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    _TIMEOUT: "5",
}
_LONGEST_TIMEOUT_S = 320


_is_own_timeout = False
"""True if the time limit of a request is ours, which may grow, and not the user's."""


def import_mlflow_quietly() -> None:
    """Import MLflow, which takes seconds, with telemetry, chatter and long retries off by default."""
    global _is_own_timeout
    chosen = "MLFLOW_LOGGING_LEVEL" in os.environ
    _is_own_timeout = _is_own_timeout or _TIMEOUT not in os.environ
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    if not chosen:
        # These print a stack trace when a store is away, which the sender reports in one line.
        for noisy in ("mlflow.store.db.utils", "mlflow.system_metrics"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)


def allow_longer_requests() -> None:
    """Double the time limit of a request, unless the user has set it.

    A slow server, or a large file on a slow line, would otherwise fail at the same limit for ever.
    """
    if _is_own_timeout:
        longer = 2 * int(os.environ[_TIMEOUT])
        os.environ[_TIMEOUT] = str(min(longer, _LONGEST_TIMEOUT_S))


def run_page(uri: str, run_id: str) -> str | None:
    """Return the address of a run's page in the MLflow UI; None if the server does not answer.

    Args:
        uri: tracking URI. For a store on this machine, the page is that of `mlflow ui` with its default port.
        run_id: id of the run.
    """
    if uri.startswith("http"):
        server = shown(uri).rstrip("/")
        experiment_id = _ask_experiment(uri, run_id)
    else:
        server = "http://127.0.0.1:5000"
        experiment_id = connect(uri).get_run(run_id).info.experiment_id
    if experiment_id is None:
        return None
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def _ask_experiment(server: str, run_id: str) -> str | None:
    """Ask a server for the experiment of a run, once; MLflow's own client would try for minutes."""
    import requests

    # The closing lines of a run wait for this, so one short attempt has to do.
    address = f"{server.rstrip('/')}/api/2.0/mlflow/runs/get"
    try:
        answer = requests.get(address, params={"run_id": run_id}, timeout=3.0)
        return answer.json()["run"]["info"]["experiment_id"]
    except (requests.RequestException, ValueError, KeyError):
        return None


def artifact_location(uri: str, *, output_root: Path, experiment: str) -> str | None:
    """Return the location of an experiment's artifacts as an absolute URI; None if the server decides.

    MLflow's own default is `./mlruns` of whichever process created the experiment.
    """
    if uri.startswith(("http", "databricks")):
        return None
    database = sqlite_path(uri)
    folder = output_root.absolute()
    if database is not None:
        folder = database.parent
    # Beside the database, so that both can be moved or deleted together.
    return (folder / "mlartifacts" / experiment.replace("/", ".")).as_uri()


def connect(uri: str) -> MlflowClient:
    """Return a client; an SQLite database and its schema are made by one process at a time.

    MLflow migrates the schema in the constructor. Two processes doing so at once break each other, and one
    that is killed leaves a database behind that can neither be used nor migrated again.

    Raises:
        ValueError: the database is damaged, or a newer MLflow wrote it.
    """
    from mlflow import MlflowClient

    database = sqlite_path(uri)
    if database is not None:
        check_database(database)
    with one_at_a_time(database):
        if database is not None and not database.exists():
            create_database(database)
        # Without a registry of its own, MLflow would take the one of `MLFLOW_REGISTRY_URI`.
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def ensure_experiment(client: MlflowClient, name: str, *, location: str | None) -> str:
    """Return the id of the experiment, creating it with artifacts at `location`.

    Raises:
        ValueError: If an experiment of this name has been deleted.
    """
    from mlflow.exceptions import MlflowException

    # Two jobs may create the experiment at once; the second one finds that of the first.
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            # The layout of the UI for training runs, and the description above them.
            tags = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": f"Training jobs of `{name}`. Energy carries a tier and an interval;"
                " see the tags `energy.*` of a run.",
            }
            client.create_experiment(name, artifact_location=location, tags=tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
        assert found is not None
    if found.lifecycle_stage == "deleted":
        raise ValueError(
            f"experiment {name} was deleted from MLflow: run `mlflow experiments restore -x "
            f"{found.experiment_id}`"
        )
    return found.experiment_id


def prepare_store(cfg: TrackingConfig, *, output_root: Path, experiment: str) -> None:
    """Create database, schema and experiment before the jobs of a sweep start, if the store is reachable."""
    if cfg.kind == "mlflow":
        with tolerating_absence("prepare the store"):
            _open(cfg, output_root=output_root, experiment=experiment)


def open_parent_run(
    cfg: TrackingConfig,
    *,
    output_root: Path,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str] | None = None,
) -> str | None:
    """Start the parent run of a sweep; return its id, None if there is no MLflow."""
    if cfg.kind != "mlflow":
        return None
    with tolerating_absence("open the sweep's parent run"):
        client, experiment_id = _open(cfg, output_root=output_root, experiment=experiment)
        run = client.create_run(
            experiment_id, run_name=run_name, tags={**source_tags(tags or {}), **(tags or {})}
        )
        return run.info.run_id
    return None


def close_parent_run(
    cfg: TrackingConfig, run_id: str | None, *, output_root: Path, status: str = "finished"
) -> None:
    """End the parent run with the status of the sweep."""
    if cfg.kind == "mlflow" and run_id is not None:
        import_mlflow_quietly()
        with tolerating_absence("close the sweep's parent run"):
            client = connect(resolve_uri(cfg, output_root=output_root))
            client.set_terminated(run_id, status=MLFLOW_STATUS[status], end_time=int(time.time() * 1000))


def source_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that MLflow's fluent interface sets; the UI shows them as user, source and version."""
    found = {
        "mlflow.source.name": redacted(" ".join(sys.argv))[:MAX_TAG_CHARS],
        "mlflow.source.type": "LOCAL",
    }
    # The user of a container may have no name.
    with suppress(KeyError, OSError):
        found["mlflow.user"] = getpass.getuser()
    if tags.get("git.commit"):
        found["mlflow.source.git.commit"] = tags["git.commit"]
    return found


def _open(cfg: TrackingConfig, *, output_root: Path, experiment: str) -> tuple[MlflowClient, str]:
    import_mlflow_quietly()
    uri = resolve_uri(cfg, output_root=output_root)
    client = connect(uri)
    location = artifact_location(uri, output_root=output_root, experiment=experiment)
    return client, ensure_experiment(client, experiment, location=location)


@contextmanager
def tolerating_absence(what: str) -> Iterator[None]:
    """Warn, and go on, if the store is away while something is done that can be left undone."""
    try:
        yield
    # A ValueError is an error of the user, such as a deleted experiment.
    except ValueError:
        raise
    # Errors of MLflow, SQLAlchemy and requests all mean that the store is unreachable.
    except Exception as reason:
        log.warning("MLflow is away, could not %s (%s); the sweep goes on", what, root_cause(reason))
