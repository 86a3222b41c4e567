"""The `tracking` config group."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from factory.tracking.credentials import shown, take_away

KINDS = ("mlflow", "jsonl", "null")
# A Databricks URI may be the bare word; the others need their scheme.
URI_SCHEMES = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql", "databricks")


@dataclass(kw_only=True)
class TrackingConfig:
    """Destination of a run's metrics besides its own folder."""

    kind: str = "mlflow"
    """`mlflow`, `jsonl` (files in the run folder only) or `null` (nothing)."""

    uri: str = ""
    """MLflow tracking URI: a server (`http://host:5000`) or a database (`sqlite:///path.db`,
    `postgresql://...`).

    Empty means `MLFLOW_TRACKING_URI`, or without it `sqlite:///<output_root>/mlflow.db`. A password in it is
    used and not stored.
    """

    system_metrics: bool = True
    """Let MLflow sample processor, memory, disk, network and GPU every 10 s, as metrics `system/...`."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If `kind` or the scheme of `uri` is unknown.
        """
        if self.kind not in KINDS:
            raise ValueError(f"tracking.kind={self.kind}: choose one of {', '.join(KINDS)}")
        if self.uri and not self.uri.startswith(URI_SCHEMES):
            # MLflow 3.13 and later refuse the file store, so a bare path or `file:` is a user error.
            raise ValueError(
                f"tracking.uri={shown(self.uri)}: give http://host:port, sqlite:///path.db or another"
                " database URI, or leave it empty for <output_root>/mlflow.db"
            )
        self._check_server()
        self.uri = take_away(self.uri)

    def _check_server(self) -> None:
        """Raise ValueError if the URI of a server has no host, or a port that cannot be."""
        if not self.uri.startswith(("http://", "https://")):
            return
        try:
            # Without the password, which may contain a slash.
            parts = urlsplit(shown(self.uri))
            # Reading the port checks it.
            has_host = bool(parts.hostname) and parts.port != 0
        except ValueError:
            has_host = False
        if not has_host:
            raise ValueError(
                f"tracking.uri={shown(self.uri)}: no such address can be; give http://host:port with a port"
                " in [1, 65535]"
            )
