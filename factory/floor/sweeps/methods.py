"""Methods of sweeps by name, and their settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from factory import metric_keys
from factory.floor.sweeps.halving import SuccessiveHalving, default_rungs
from factory.floor.sweeps.listed import ListedSearch
from factory.floor.sweeps.optuna_search import OptunaSearch, load_optuna
from factory.floor.sweeps.population import PopulationTraining
from factory.floor.sweeps.space import MAX_CANDIDATES, SearchSpace, parse
from factory.metric_keys import Better
from factory.runtime.decoding import LARGEST_COUNT, Count, Within
from factory.validation import require

if TYPE_CHECKING:
    from factory.floor.sweeps.trials import Sweep

_GENERATIONS = 5
"""Rungs of PBT by default."""


@dataclass(kw_only=True)
class SweepSettings:
    """Settings of a sweep on the command line."""

    trials: int = 0
    """Configurations to try, or members of the population; 0: all of the grid."""
    eta: int = 3
    """Trials at a rung for each promoted one (asha)."""
    rungs: list[int] = field(default_factory=list)
    """Environment steps at which trials are compared (asha, pbt); by default they follow from total_steps."""
    metric: list[str] = field(default_factory=lambda: ["eval/return_mean"])
    """Metric of the summary by which trials are compared; tpe and gp take several."""
    parallel: int = 2
    """Trials under way at once (tpe, gp)."""
    search_seed: int = 0
    """Seed of what the sweep draws; `seed` is that of the trainings."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(0 <= self.trials <= MAX_CANDIDATES, "trials", self.trials, f"at most {MAX_CANDIDATES}")
        require(self.eta >= 2, "eta", self.eta, "must be at least 2")
        require(self.parallel >= 1, "parallel", self.parallel, "must be at least 1")
        is_ascending = all(low < high for low, high in pairwise([0, *self.rungs]))
        require(is_ascending, "rungs", self.rungs, "give environment steps in ascending order")
        require(bool(self.metric), "metric", self.metric, "name a metric, such as eval/return_mean")
        for key in self.metric:
            _check_metric(key)


def _check_metric(key: str) -> None:
    """Raise ValueError unless a key looks like that of a metric; tasks have some of their own."""
    known = [metric.key for metric in metric_keys.METRICS]
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    require(not near, "metric", key, f"did you mean {''.join(near)}?")
    require("/" in key, "metric", key, "name a metric as summary.json has it, such as eval/return_mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """A sweep as it is stored: everything that its decisions depend on beside the records of its trials."""

    method: str
    ranges: tuple[str, ...]
    """Arguments of `factory.train` that vary."""
    total_steps: Count
    trials: Annotated[int, Within(0, MAX_CANDIDATES)]
    eta: Annotated[int, Within(2, LARGEST_COUNT)]
    rungs: tuple[Count, ...]
    metric: tuple[str, ...]
    parallel: Annotated[int, Within(1, LARGEST_COUNT)]
    search_seed: int

    @property
    def signs(self) -> tuple[int, ...]:
        """Return, for each metric, 1 if more is better, else -1."""
        return tuple(-1 if metric_keys.metric(key).better is Better.LOWER else 1 for key in self.metric)

    def candidates(self, space: SearchSpace) -> list[tuple[str, ...]]:
        """Return the configurations that are known from the start.

        Raises:
            ValueError: there are too many, or an interval has no number of them.
        """
        if self.trials == 0:
            return space.grid()
        return space.sample(self.trials, seed=self.search_seed)


def plan(method: str, settings: SweepSettings, ranges: tuple[str, ...], *, total_steps: int) -> SweepPlan:
    """Return the plan of a sweep, with the rungs that its method takes.

    Raises:
        ValueError: settings do not fit the method, its package is missing, or the ranges have a mistake.
    """
    has_rungs = method in ("asha", "pbt")
    require(has_rungs or not settings.rungs, "rungs", settings.rungs, f"{method} has none; leave it out")
    is_whole = method not in ("grid",) or settings.trials == 0
    require(is_whole, "trials", settings.trials, "a grid is tried whole; choose random for a part of it")
    is_counted = method in ("grid", "asha") or settings.trials > 0
    require(is_counted, "trials", settings.trials, f"{method} needs the number of trials, such as trials=20")
    most = len(settings.metric) if method in ("tpe", "gp") else 1
    require(len(settings.metric) <= most, "metric", settings.metric, f"{method} takes one; choose tpe or gp")
    if method in ("tpe", "gp"):
        load_optuna()
    # The plan holds what was decided here, so that another version with other defaults goes on with it.
    drafted = SweepPlan(
        method=method,
        ranges=ranges,
        total_steps=total_steps,
        trials=settings.trials,
        eta=settings.eta,
        rungs=tuple(settings.rungs) or (total_steps,),
        metric=tuple(settings.metric),
        parallel=settings.parallel,
        search_seed=settings.search_seed,
    )
    if has_rungs and not settings.rungs:
        drafted = replace(drafted, rungs=_default_rungs(drafted))
    remedy = f"the last one must be at most total_steps={total_steps}"
    require(drafted.rungs[-1] <= total_steps, "rungs", list(drafted.rungs), remedy)
    return drafted


def _default_rungs(drafted: SweepPlan) -> tuple[int, ...]:
    if drafted.method == "pbt":
        steps = drafted.total_steps
        # Short trainings have fewer steps than generations: equal rungs count once.
        parts = (steps * part // _GENERATIONS for part in range(1, _GENERATIONS + 1))
        return tuple(dict.fromkeys(part for part in parts if part > 0))
    num_trials = len(drafted.candidates(parse(drafted.ranges)))
    return default_rungs(drafted.total_steps, num_trials=num_trials, eta=drafted.eta)


def _listed(given: SweepPlan, space: SearchSpace) -> Sweep:
    return ListedSearch(candidates=given.candidates(space), rungs=given.rungs)


def _asha(given: SweepPlan, space: SearchSpace) -> Sweep:
    return SuccessiveHalving(
        candidates=given.candidates(space), rungs=given.rungs, eta=given.eta, sign=given.signs[0]
    )


def _pbt(given: SweepPlan, space: SearchSpace) -> Sweep:
    return PopulationTraining(
        space=space,
        candidates=given.candidates(space),
        rungs=given.rungs,
        sign=given.signs[0],
        seed=given.search_seed,
    )


def _optuna(given: SweepPlan, space: SearchSpace) -> Sweep:
    return OptunaSearch(
        space=space,
        sampler=given.method,
        num_trials=given.trials,
        parallel=given.parallel,
        signs=given.signs,
        rungs=given.rungs,
        seed=given.search_seed,
    )


METHODS: dict[str, Callable[[SweepPlan, SearchSpace], Sweep]] = {
    "grid": _listed,
    "random": _listed,
    "asha": _asha,
    "pbt": _pbt,
    "tpe": _optuna,
    "gp": _optuna,
}


def make(given: SweepPlan) -> Sweep:
    """Return the sweep of a plan."""
    return METHODS[given.method](given, parse(given.ranges))
