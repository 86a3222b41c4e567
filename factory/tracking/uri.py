"""The tracking URI: from the settings, from MLflow's variable, or the store under the output root."""

from __future__ import annotations

import os
from pathlib import Path

from factory.tracking.config import URI_SCHEMES, TrackingConfig
from factory.tracking.credentials import complete, shown
from factory.tracking.database import check_database

_VARIABLE = "MLFLOW_TRACKING_URI"
_IGNORED = {
    "MLFLOW_REGISTRY_URI": "models are registered where the run is",
    "MLFLOW_EXPERIMENT_NAME": "the experiment is the task's",
    "MLFLOW_EXPERIMENT_ID": "the experiment is the task's",
    "MLFLOW_RUN_ID": "resume=<run folder> goes on with a run",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "set tracking.system_metrics",
}
"""Variables of MLflow without an effect here -> reason or remedy."""


def resolve_uri(cfg: TrackingConfig, *, output_root: Path) -> str:
    """Return the tracking URI with an absolute path, to mean the same in every folder and process.

    Without one in the settings, it is that of `MLFLOW_TRACKING_URI`, else the store under `output_root`.
    """
    uri = complete(cfg.uri) or _uri_of_environment()
    if not uri:
        return f"sqlite:///{output_root.absolute() / 'mlflow.db'}"
    path = sqlite_path(uri)
    if path is None:
        return uri
    return f"sqlite:///{path.absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of an SQLite URI, None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///"))


def check_store(cfg: TrackingConfig, *, output_root: Path) -> None:
    """Raise ValueError if the database of a run is damaged, or written by a newer MLflow."""
    if cfg.kind != "mlflow":
        return
    database = sqlite_path(resolve_uri(cfg, output_root=output_root))
    if database is not None:
        check_database(database)


def environment_note(cfg: TrackingConfig) -> str:
    """Return a line about the variables of MLflow that are set, which are in use and which are not.

    It is empty if there are none, or without MLflow.
    """
    if cfg.kind != "mlflow":
        return ""
    parts: list[str] = []
    given = os.environ.get(_VARIABLE, "")
    if given and cfg.uri:
        parts.append(f"{_VARIABLE} is ignored (tracking.uri={cfg.uri} is given)")
    elif given and not _uri_of_environment():
        parts.append(f"{_VARIABLE}={shown(given)} is ignored (it is neither a server nor a database)")
    elif given:
        parts.append(f"{_VARIABLE}={shown(given)} is used")
    for name, reason in _IGNORED.items():
        if os.environ.get(name):
            parts.append(f"{name} is ignored ({reason})")
    return "; ".join(parts)


def _uri_of_environment() -> str:
    """Return the URI of MLflow's variable; empty if there is none, or one of a kind that cannot be used."""
    uri = os.environ.get(_VARIABLE, "")
    if uri.startswith(URI_SCHEMES):
        return uri
    return ""
