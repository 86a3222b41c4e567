"""Rows of metrics that MLflow has of a resumed run, so that iterations made again are not logged again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factory.tracking.updates import Update

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ITERATION_KEY = "factory/env_steps"
_EVALUATION_KEY = "eval/return_mean"


class LoggedRows:
    """Rows of a run as MLflow has them when the run is resumed.

    A row of an iteration is the same as another of its step: a resumed run goes on exactly. The row at the
    end of the run, which has the results of the evaluation, is the same if its return is; the run may be
    evaluated anew with other settings.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        """Ask MLflow for the rows of the run."""
        self._iterations = {point.step for point in client.get_metric_history(run_id, _ITERATION_KEY)}
        evaluations = client.get_metric_history(run_id, _EVALUATION_KEY)
        self._evaluations = {(point.step, point.value) for point in evaluations}

    def __contains__(self, row: Update) -> bool:
        """Return whether MLflow has the row of a `metrics` update."""
        metrics = row["metrics"]
        if _EVALUATION_KEY in metrics:
            return (row["step"], metrics[_EVALUATION_KEY]) in self._evaluations
        return _ITERATION_KEY in metrics and row["step"] in self._iterations
