"""Bayesian search by Optuna: trees of Parzen estimators (TPE) or a Gaussian process (GP), many objectives.

Optuna keeps nothing: for every new trial a study is built from the records. A trial is drawn when all but the
`parallel - 1` trials before it have ended, and from these alone, so that it does not depend on which of the
others came in first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.floor.sweeps.space import Choice, Dimension, SearchSpace
from factory.floor.sweeps.trials import Start, Trial, TrialAction

if TYPE_CHECKING:
    import optuna


def load_optuna() -> Any:
    """Return the package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError("sweep tpe, gp: Optuna is not installed; pip install -e '.[sweep]'") from error
    # It would report every trial of every study that is built from records.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True, kw_only=True)
class OptunaSearch:
    """Draws one trial after another near the best so far, each trained to the end."""

    space: SearchSpace
    sampler: str
    """tpe or gp."""
    num_trials: int
    parallel: int
    """Trials that are under way at once."""
    signs: tuple[int, ...]
    """For every objective, 1 if more is better, -1 if less is."""
    rungs: tuple[int, ...]
    seed: int

    def propose(self, trials: Sequence[Trial]) -> list[TrialAction]:
        """Start the trials whose predecessors have ended, see `Sweep.propose`."""
        known = {trial.id: trial for trial in trials}
        actions: list[TrialAction] = []
        for number in range(self.num_trials):
            if number in known:
                continue
            before = [known.get(earlier) for earlier in range(number)]
            # Those that may still be under way count as running, whatever is known of them.
            ended = before[: max(0, number - self.parallel + 1)]
            if not all(trial and trial.has_reached(0) for trial in ended) or None in before:
                break
            overrides = self._draw([trial for trial in before if trial], num_ended=len(ended))
            start = Start(trial=number, overrides=overrides, stop_at_steps=self.rungs[0])
            actions.append(start)
            # The next one has to know of this one.
            known[number] = Trial(id=number, overrides=overrides)
        return actions

    def _draw(self, before: Sequence[Trial], *, num_ended: int) -> tuple[str, ...]:
        """Return the overrides of the next trial.

        Args:
            before: trials before it, in their order.
            num_ended: how many of the first ones count with their metrics.
        """
        optuna = load_optuna()
        directions = ["maximize" if sign > 0 else "minimize" for sign in self.signs]
        study = optuna.create_study(directions=directions, sampler=self._sampler(len(before)))
        distributions = {dimension.key: _distribution(dimension) for dimension in self.space.dimensions}
        for index, trial in enumerate(before):
            study.add_trial(self._frozen(trial, distributions, is_ended=index < num_ended))
        return self.space.overrides(study.ask(distributions).params)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        samplers = load_optuna().samplers
        # A fixed seed would draw the same point until enough trials are known.
        seed = self.seed + number
        if self.sampler == "gp":
            return samplers.GPSampler(seed=seed)
        # With a constant liar, trials under way keep others from the same place.
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _frozen(
        self, trial: Trial, distributions: dict[str, Any], *, is_ended: bool
    ) -> optuna.trial.FrozenTrial:
        """Return a record as a trial of Optuna's."""
        optuna = load_optuna()
        states = optuna.trial.TrialState
        state = states.RUNNING
        values = None
        if is_ended:
            # A trial without a metric counts as failed, which the samplers leave out.
            state = states.FAIL
            found = trial.value_at(0)
            if found is not None and all(map(math.isfinite, found)):
                state = states.COMPLETE
                values = list(found)
        return optuna.trial.create_trial(
            state=state,
            values=values,
            params=self.space.values(trial.overrides),
            distributions=distributions,
        )


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    kinds = load_optuna().distributions
    if isinstance(dimension, Choice):
        return kinds.CategoricalDistribution(dimension.values)
    if dimension.is_integer:
        return kinds.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)
