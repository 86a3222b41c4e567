"""Order of trials by their metric at a rung."""

from __future__ import annotations

import math
from collections.abc import Iterable

from factory.floor.sweeps.trials import Trial, Value


def score(value: Value, *, sign: int) -> float:
    """Return a number that is greater for a better trial: -inf if there is no metric.

    Args:
        value: metrics at a rung; the first one counts.
        sign: 1 if more is better, -1 if less is.
    """
    if value is None or math.isnan(value[0]):
        return -math.inf
    return sign * value[0]


def ranked(trials: Iterable[Trial], *, rung: int, sign: int) -> list[Trial]:
    """Return trials that have a metric at a rung, best first; of equal ones the one that started first."""
    scores = {trial: score(trial.value_at(rung), sign=sign) for trial in trials}
    with_metric = [trial for trial, value in scores.items() if value > -math.inf]
    return sorted(with_metric, key=lambda trial: (-scores[trial], trial.id))
