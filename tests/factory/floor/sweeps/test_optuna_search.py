"""Sweeps by Optuna, whose studies are built from the records."""

from __future__ import annotations

import math
import random
import sys

import pytest
from sweep_play import decisions, play

from factory.floor.sweeps import space
from factory.floor.sweeps.optuna_search import OptunaSearch
from factory.floor.sweeps.trials import Start, Trial, Value

SPACE = space.parse(["learner.learning_rate=tag(log,interval(1e-4,1e-1))", "learner.gamma=0.9,0.95,0.99"])


def search(sampler: str, *, trials: int, signs: tuple[int, ...] = (1,), parallel: int = 2) -> OptunaSearch:
    return OptunaSearch(
        space=SPACE, sampler=sampler, num_trials=trials, parallel=parallel, signs=signs, rungs=(100,), seed=0
    )


def distance(trial: Trial) -> float:
    """Return how far a trial is from the best settings, in decades and steps of gamma."""
    values = SPACE.values(trial.overrides)
    decades = abs(math.log10(values["learner.learning_rate"]) + 2)
    return decades + 10 * abs(float(values["learner.gamma"]) - 0.95)


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the extra to install."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[sweep\]'"):
        search("tpe", trials=2).propose([])


def test_trials_wait_for_those_they_learn_from() -> None:
    """Two at once: the third is drawn when the first has ended, whatever becomes of the second."""
    pytest.importorskip("optuna")
    sweep = search("tpe", trials=4)
    starts = sweep.propose([])
    assert [action.trial for action in starts] == [0, 1]
    first, second = (Trial(id=a.trial, overrides=a.overrides) for a in starts if isinstance(a, Start))
    assert sweep.propose([first, second]) == []
    assert sweep.propose([first, second.after_rung((1.0,), steps=100, num_rungs=1)]) == []
    ended = first.after_rung((1.0,), steps=100, num_rungs=1)
    (third,) = sweep.propose([second, ended])
    assert third == sweep.propose([ended, second])[0]
    failed = [first.after_failure(), second]
    assert [action.trial for action in sweep.propose(failed)] == [2]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_search_moves_towards_the_best_whatever_the_order(sampler: str) -> None:
    """Later trials are nearer to the best settings than the first; order and kills change none."""
    pytest.importorskip("optuna")
    trials = {"tpe": 24, "gp": 12}[sampler]
    outcome = lambda trial, rung: (-distance(trial),)  # noqa: E731
    make = lambda: search(sampler, trials=trials)  # noqa: E731
    records, actions = play(make, outcome, order=random.Random(0), slots=2)
    early, first = play(make, outcome, order=random.Random(1), slots=2, kill_after=5)
    _, second = play(make, outcome, order=random.Random(2), slots=2, records=early)
    assert decisions([*first, *second]) == decisions(actions)
    distances = [distance(records[number]) for number in range(trials)]
    assert sum(distances[-2:]) < sum(distances[:2])
    assert min(distances) < 0.5


def test_two_objectives_and_failures() -> None:
    """Return up and joules down: trials without metrics are left out, and the search goes on."""
    pytest.importorskip("optuna")

    def outcome(trial: Trial, rung: int) -> Value:
        if trial.id == 3:
            return None
        if trial.id == 4:
            return (float("nan"), 1.0)
        return (-distance(trial), SPACE.values(trial.overrides)["learner.learning_rate"])

    make = lambda: search("tpe", trials=13, signs=(1, -1))  # noqa: E731
    records, actions = play(make, outcome, order=random.Random(0), slots=2)
    assert len(actions) == len(records) == 13
