"""The runs to compare, from run folders, from folders of runs, or from MLflow."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from factory import cli
from factory.cli import spelling
from factory.reporting.run_folder import Record, read_run
from factory.runtime import stored_files
from factory.runtime.stored_files import parse_yaml, visible
from factory.tracking.base import flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

UNKNOWN = "unknown"
MAX_QUERIED = 1000
"""Most runs that one MLflow query may give."""
LAST_SWEEP = "last-sweep"
_CURVE_KEYS = ("train/return_mean", "time/wall_s", "energy/total_j")
"""Metrics whose history is read from MLflow."""
_TRAINING_PHASES = ("startup", "sim", "infer", "learn")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run: its settings and its results."""

    name: str
    location: str
    """Run folder or MLflow run id."""
    status: str
    metrics: Mapping[str, float]
    """Last value of every metric."""
    tags: Mapping[str, str]
    config: Mapping[str, str]
    """Every leaf of the resolved configuration, `learner.gamma` and so on."""
    history: Sequence[Record] = ()
    """Iterations of the training, in order of env steps."""

    def tag(self, key: str) -> str:
        """Return a tag, `unknown` if it was not recorded."""
        return self.tags.get(key) or UNKNOWN

    @property
    def seed(self) -> str:
        """Seed of the run."""
        return self.config.get("seed", UNKNOWN)

    @property
    def threshold(self) -> float | None:
        """Return to be reached in training; None if the task has none."""
        # Configurations are flattened to text, like the parameters of MLflow.
        text = self.config.get("task.return_threshold", "None")
        if text in ("None", ""):
            return None
        try:
            return float(text)
        except ValueError:
            return None

    @property
    def has_reached(self) -> bool:
        """True if training reached the threshold."""
        return "factory/seconds_to_threshold" in self.metrics

    @property
    def spent_s(self) -> float:
        """Training time to the threshold, or without reaching it [s]."""
        return self.metrics.get("factory/seconds_to_threshold", self.metrics.get("time/wall_s", 0.0))

    @property
    def spent_j(self) -> float:
        """Energy to the threshold, or at least spent in training without reaching it [J]; NaN if not metered.

        The total at the end of training is not on record, only that of the whole run: start-up, rollouts and
        updates alone are surely part of it.
        """
        if "energy/total_j" not in self.metrics:
            return math.nan
        # The cost at the moment of reaching was logged by the training itself.
        if self.has_reached:
            return self.metrics.get("factory/joules_to_threshold", math.nan)
        return sum(self.metrics.get(f"energy/phase/{phase}_j", 0.0) for phase in _TRAINING_PHASES)


def select_runs(names: Sequence[str], *, output_root: Path) -> list[ComparedRun]:
    """Return the runs of the given names, each once, in the order given.

    Args:
        names: Run folders, folders that hold run folders (a sweep), MLflow run ids, `last` or `last-sweep`.
        output_root: Where `last`, `last-sweep` and MLflow run ids are looked up.

    Raises:
        ValueError: A name belongs to no run.
    """
    # A run that is named twice would count as two seeds.
    folders = dict.fromkeys(folder for name in names for folder in _folders(name, output_root))
    return [_from_folder(folder) for folder in folders]


def _folders(name: str, output_root: Path) -> list[Path]:
    """Return the run folders of a name."""
    if name == LAST_SWEEP:
        return _runs_below(_last_sweep(output_root), name)
    folder = Path(name).expanduser().absolute()
    # A sweep or a task folder stands for all its runs.
    if os.path.isdir(folder):
        return _runs_below(folder, name)
    try:
        return [cli.find_run(name, key="run", output_root=output_root)]
    except ValueError as error:
        raise ValueError(f"{error}{_suggestion(name)}") from error


def _last_sweep(output_root: Path) -> Path:
    """Return the folder of the newest sweep; Hydra writes `multirun.yaml` into it."""
    found = list(stored_files.find(output_root, "multirun.yaml"))
    if not found:
        raise ValueError(f"run={LAST_SWEEP}: no sweep under {output_root.absolute()}; start one with -m")
    return max(found, key=lambda path: path.stat().st_mtime).absolute().parent


def _runs_below(folder: Path, name: str) -> list[Path]:
    # What MLflow keeps are copies: the runs themselves are beside its store.
    found = [path.parent for path in sorted(stored_files.find(folder, "config.yaml"))]
    runs = [
        path
        for path in found
        if "artifacts" not in path.relative_to(folder).parts and (path / "metrics.jsonl").exists()
    ]
    if not runs:
        raise ValueError(
            f"run={name}: holds no run; give a folder with config.yaml and metrics.jsonl, or one above"
        )
    return runs


def _suggestion(name: str) -> str:
    """Return a question that names what was probably meant, empty if nothing is near."""
    path = Path(name).expanduser()
    choices = ["last", LAST_SWEEP]
    if os.path.isdir(path.parent):
        choices += [str(path.parent / entry.name) for entry in path.parent.iterdir() if entry.is_dir()]
    near = spelling.near_names(name, choices)
    if not near:
        return ""
    return f"; did you mean run={near[0]}?"


def _from_folder(folder: Path) -> ComparedRun:
    run = read_run(folder)
    return ComparedRun(
        name=folder.name,
        location=str(folder),
        status=run.status,
        metrics=run.metrics,
        tags=run.tags,
        config=_flat(run.config_text, folder),
        history=run.records,
    )


def _flat(config_text: str, folder: Path) -> dict[str, str]:
    """Return every leaf of a run's configuration."""
    config = parse_yaml(config_text, name=f"run={folder}: config.yaml")
    if not isinstance(config, dict):
        raise ValueError(f"run={folder}: config.yaml holds no configuration; leave the run out")
    try:
        return {visible(key): visible(value) for key, value in flatten(config)}
    except ValueError as error:
        # Python writes no number of more than 4300 digits.
        raise ValueError(f"run={folder}: config.yaml: {error}") from error


def query_runs(query: str, *, experiment: str, uri: str) -> list[ComparedRun]:
    """Return the runs that MLflow finds; the parents of sweeps, which trained nothing, are left out.

    Args:
        query: MLflow's filter, e.g. `params.num_envs = '256'`; empty takes every run.
        experiment: Name of the experiment, which is the task's; empty searches all.
        uri: Absolute tracking URI.

    Raises:
        ValueError: There is no such store or experiment, the filter is wrong, or nothing is found.
    """
    from factory.tracking.credentials import shown
    from factory.tracking.store import connect, import_mlflow_quietly
    from factory.tracking.uri import sqlite_path

    # MLflow would create a missing database instead of failing.
    database = sqlite_path(uri)
    if database and not database.exists():
        raise ValueError(
            f"uri={uri}: no such database; give the output_root of the runs or the uri of their store"
        )
    # Loading MLflow takes seconds: not before it is needed.
    import_mlflow_quietly()
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        known = {found.name: found.experiment_id for found in client.search_experiments()}
        if experiment and experiment not in known:
            raise ValueError(f"experiment={experiment}: choose one of {', '.join(sorted(known))}")
        ids = list(known.values())
        if experiment:
            ids = [known[experiment]]
        found = client.search_runs(ids, filter_string=query, max_results=MAX_QUERIED)
    except MlflowException as error:
        raise ValueError(f"query={query}: {shown(uri)} says: {str(error).splitlines()[0]}") from error
    runs = [
        _from_tracker(client, run) for run in reversed(found) if "task" in run.data.tags
    ]  # the oldest first
    if not runs:
        raise ValueError(f"query={query}: no run in {experiment or 'any experiment'} of {shown(uri)} matches")
    return runs


def _from_tracker(client: MlflowClient, run: TrackedRun) -> ComparedRun:
    return ComparedRun(
        name=visible(run.info.run_name or run.info.run_id),
        location=run.info.run_id,
        status=str(run.info.status).lower(),
        metrics=run.data.metrics,
        tags={visible(key): visible(value) for key, value in run.data.tags.items()},
        config={visible(key): visible(value) for key, value in run.data.params.items()},
        history=_history(client, run.info.run_id),
    )


def _history(client: MlflowClient, run_id: str) -> list[Record]:
    """Return the iterations of a run from the history of a few metrics."""
    rows: dict[int, Record] = {}
    for key in _CURVE_KEYS:
        for point in client.get_metric_history(run_id, key):
            # Metrics of an iteration are logged one by one, under the same step.
            row = rows.setdefault(
                point.step, Record(step=point.step, time_unix_s=point.timestamp / 1000.0, metrics={})
            )
            row.metrics[key] = point.value
    return [rows[step] for step in sorted(rows)]
