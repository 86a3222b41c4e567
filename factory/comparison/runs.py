"""The runs to compare, from run folders, from folders of runs, or from MLflow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from factory import cli
from factory.reporting.run_folder import read_run
from factory.tracking.base import flatten

if TYPE_CHECKING:
    from mlflow.entities import Run as LedgerRun

UNKNOWN = "unknown"
MAX_QUERIED = 1000
"""Most runs that one MLflow query may give."""
_TRAINING_PHASES = ("startup", "sim", "infer", "learn")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run: what it was told to do, and what came of it."""

    name: str
    place: str
    """Run folder or MLflow run id."""
    status: str
    metrics: Mapping[str, float]
    """Last value of every metric."""
    tags: Mapping[str, str]
    config: Mapping[str, str]
    """Every leaf of the resolved configuration, `learner.gamma` and so on."""

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
        text = self.config.get("task.return_threshold", "None")
        return None if text in ("None", "") else float(text)

    @property
    def has_reached(self) -> bool:
        """Whether training reached the threshold."""
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
        if self.has_reached:
            return self.metrics.get("factory/joules_to_threshold", math.nan)
        return sum(self.metrics.get(f"energy/phase/{phase}_j", 0.0) for phase in _TRAINING_PHASES)


def select_runs(names: Sequence[str], *, output_root: Path) -> list[ComparedRun]:
    """Return the runs that the names stand for, each once, in the order given.

    Args:
        names: Run folders, folders that hold run folders (a sweep), MLflow run ids, or `last`.
        output_root: Where `last` and MLflow run ids are looked up.

    Raises:
        ValueError: A name stands for no run.
    """
    folders = dict.fromkeys(folder for name in names for folder in _folders(name, output_root))
    return [_from_folder(folder) for folder in folders]


def _folders(name: str, output_root: Path) -> Iterator[Path]:
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        yield cli.find_run(name, key="run", output_root=output_root)
        return
    # What MLflow keeps are copies: the runs themselves are beside its store.
    found = [path.parent.relative_to(folder) for path in sorted(folder.rglob("config.yaml"))]
    runs = [
        folder / path
        for path in found
        if "artifacts" not in path.parts and (folder / path / "metrics.jsonl").exists()
    ]
    if not runs:
        raise ValueError(
            f"run={name}: holds no run; give a folder with config.yaml and metrics.jsonl, or one above"
        )
    yield from runs


def _from_folder(folder: Path) -> ComparedRun:
    run = read_run(folder)
    return ComparedRun(
        name=folder.name,
        place=str(folder),
        status=run.status,
        metrics=run.metrics,
        tags=run.tags,
        config=dict(flatten(yaml.safe_load(run.config_text))),
    )


def query_runs(query: str, *, experiment: str, uri: str) -> list[ComparedRun]:
    """Return the runs that MLflow finds; the parents of sweeps, which trained nothing, are left out.

    Args:
        query: MLflow's filter, e.g. `params.num_envs = '256'`; empty takes every run.
        experiment: Name of the experiment, which is the task's; empty searches all.
        uri: Absolute tracking URI.

    Raises:
        ValueError: There is no such store or experiment, the filter is wrong, or nothing is found.
    """
    from factory.tracking.store import connect, import_mlflow_quietly, shown, sqlite_path

    database = sqlite_path(uri)
    if database and not database.exists():
        raise ValueError(
            f"uri={uri}: no such database; give the output_root of the runs or the uri of their store"
        )
    import_mlflow_quietly()
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        known = {found.name: found.experiment_id for found in client.search_experiments()}
        if experiment and experiment not in known:
            raise ValueError(f"experiment={experiment}: choose one of {', '.join(sorted(known))}")
        ids = [known[experiment]] if experiment else list(known.values())
        found = client.search_runs(ids, filter_string=query, max_results=MAX_QUERIED)
    except MlflowException as error:
        raise ValueError(f"query={query}: {shown(uri)} says: {str(error).splitlines()[0]}") from error
    runs = [_from_ledger(run) for run in reversed(found) if "task" in run.data.tags]  # the oldest first
    if not runs:
        raise ValueError(f"query={query}: no run in {experiment or 'any experiment'} of {shown(uri)} matches")
    return runs


def _from_ledger(run: LedgerRun) -> ComparedRun:
    return ComparedRun(
        name=run.info.run_name or run.info.run_id,
        place=run.info.run_id,
        status=str(run.info.status).lower(),
        metrics=run.data.metrics,
        tags=run.data.tags,
        config=run.data.params,
    )
