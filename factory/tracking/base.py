"""The interface of experiment trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Tracker(ABC):
    """The experiment tracker of one run. Only `log` is required; the rest does nothing by default.

    No method waits for a server, and none raises because a server is unreachable.
    """

    @property
    def run_id(self) -> str | None:
        """Identity of the run on the tracking server; None without a server or until it has been reached."""
        return None

    @property
    def spent_s(self) -> float:
        """Time that tracking has taken from training since the run was opened [s]."""
        return 0.0

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the metrics of one training iteration.

        Args:
            metrics: Values by key, unit in the key.
            step: Environment steps taken so far.
        """

    def set_tags(self, tags: Mapping[str, str]) -> None:  # noqa: B027
        """Set or overwrite tags of the run."""

    def log_artifacts(self, path: Path, artifact_path: str | None = None) -> None:  # noqa: B027
        """Copy a file or the contents of a folder to the run.

        Args:
            path: File or folder in the run folder; read when it is sent, so leave it in place.
            artifact_path: Folder among the run's artifacts; None is the top.
        """

    def log_policy(  # noqa: B027
        self,
        exported: Path,
        *,
        registered_name: str,
        alias: str = "latest",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Register an exported policy as a new version of a model.

        Args:
            exported: Folder in the run folder, written by `factory.policies.export.export_policy`.
            registered_name: Task name; `/` and `:` become `.`, so `gym/half_cheetah` is `gym.half_cheetah`.
            alias: Alias that will point to this version.
            metrics: Metrics to show beside the model.
        """

    def close(self, status: str = "finished") -> None:  # noqa: B027
        """End the run as `finished`, `interrupted` or `failed`, after sending what is still unsent."""


def flatten(params: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested mappings as `("learner.learning_rate", "0.001")`; a list is one leaf."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            # MLflow's parameters are flat; dots are what the command line uses too.
            yield from flatten(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
