"""Decisions of sweeps follow from the records alone: no order, kill or repetition changes them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_play import decisions, play

from factory.floor.sweeps import space
from factory.floor.sweeps.halving import SuccessiveHalving, default_rungs
from factory.floor.sweeps.listed import ListedSearch
from factory.floor.sweeps.population import PopulationTraining
from factory.floor.sweeps.trials import Exploit, Promote, Start, Sweep, Trial, TrialState, Value

SPACE = space.parse(["learner.learning_rate=tag(log,interval(1e-4,1e-1))", "learner.gamma=0.9,0.95,0.99"])


def asha(trials: int, eta: int, rungs: int) -> SuccessiveHalving:
    candidates = SPACE.sample(trials, seed=0)
    return SuccessiveHalving(
        candidates=candidates, rungs=tuple(eta**index for index in range(rungs)), eta=eta, sign=1
    )


def pbt(trials: int, eta: int, rungs: int) -> PopulationTraining:
    candidates = SPACE.sample(trials, seed=0)
    steps = tuple(range(100, 100 * rungs + 1, 100))
    return PopulationTraining(space=SPACE, candidates=candidates, rungs=steps, sign=1, seed=eta)


def listed(trials: int, eta: int, rungs: int) -> ListedSearch:
    return ListedSearch(candidates=SPACE.sample(trials, seed=eta), rungs=(100 * rungs,))


METHODS: dict[str, Callable[[int, int, int], Sweep]] = {"asha": asha, "pbt": pbt, "listed": listed}


def noise(seed: int, failures: float = 0.0) -> Callable[[Trial, int], Value]:
    """Return outcomes that depend on trial and rung alone; some trials fail."""

    def outcome(trial: Trial, rung: int) -> Value:
        rng = random.Random(f"{seed}/{trial.overrides}/{trial.parent}/{rung}")
        if rng.random() < failures:
            return None
        # Few different values, so that some trials are equal.
        return (float(rng.randrange(6)),)

    return outcome


@pytest.mark.parametrize("method", METHODS)
@given(
    trials=st.integers(1, 14),
    eta=st.integers(2, 4),
    rungs=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    failures=st.sampled_from([0.0, 0.0, 0.2, 0.9]),
    slots=st.integers(1, 5),
    kill_after=st.integers(0, 30),
)
def test_order_and_kills_change_no_decision(
    method: str, trials: int, eta: int, rungs: int, seed: int, failures: float, slots: int, kill_after: int
) -> None:
    """One trial at a time, many in any order, or killed amid a batch of actions: the decisions are equal."""
    make = lambda: METHODS[method](trials, eta, rungs)  # noqa: E731
    outcome = noise(seed, failures)
    records, actions = play(make, outcome, order=random.Random(0), slots=1)
    others, other_actions = play(make, outcome, order=random.Random(seed), slots=slots)
    assert decisions(other_actions) == decisions(actions)
    assert others == records

    early, first = play(make, outcome, order=random.Random(seed + 1), slots=slots, kill_after=kill_after)
    late, second = play(make, outcome, order=random.Random(seed + 2), slots=slots, records=early)
    assert decisions([*first, *second]) == decisions(actions)
    assert late == records
    assert make().propose(list(records.values())) == []
    assert all(trial.state not in (TrialState.RUNNING, TrialState.PAUSED) for trial in records.values())


@given(
    trials=st.integers(1, 40),
    eta=st.integers(2, 4),
    rungs=st.integers(2, 5),
    seed=st.integers(0, 10**6),
    failures=st.sampled_from([0.0, 0.3]),
)
def test_asha_promotes_the_best_of_every_prefix(
    trials: int, eta: int, rungs: int, seed: int, failures: float
) -> None:
    """Of the first eta, 2 eta, ... and of all at a rung the best 1/eta go on, and nobody else."""
    records, actions = play(
        lambda: asha(trials, eta, rungs), noise(seed, failures), order=random.Random(seed), slots=7
    )
    entrants = list(range(trials))
    for rung in range(rungs - 1):
        expected: list[int] = []
        for number in sorted({*range(eta, len(entrants) + 1, eta), len(entrants)}):
            sound = [i for i in entrants[:number] if records[i].value_at(rung) is not None]
            sound.sort(key=lambda i: (-(records[i].value_at(rung) or (0.0,))[0], i))
            expected += [i for i in sound[: max(1, number // eta)] if i not in expected]
        promoted = {trial.id for trial in records.values() if trial.next_rung > rung + 1}
        assert promoted == set(expected)
        entrants = expected
    assert len({action.trial for action in actions if isinstance(action, Start)}) == trials


@given(seed=st.integers(0, 10**6), sign=st.sampled_from([1, -1]))
def test_asha_finds_the_best_of_a_grid_with_half_of_its_steps(seed: int, sign: int) -> None:
    """Nine curves that keep their order: the best is at the last rung, in any order of arrival."""
    quality = random.Random(seed).sample(range(9), 9)
    rungs = default_rungs(9, num_trials=9, eta=3)
    assert rungs == (1, 3, 9)
    candidates = [(f"seed={number}",) for number in range(9)]
    make = lambda: SuccessiveHalving(candidates=candidates, rungs=rungs, eta=3, sign=sign)  # noqa: E731

    def curve(trial: Trial, rung: int) -> Value:
        return (sign * (quality[trial.id] + 1.0) * rungs[rung],)

    records, _ = play(make, curve, order=random.Random(seed), slots=2)
    assert 8 in [quality[trial.id] for trial in records.values() if trial.state == TrialState.DONE]
    assert sum(trial.steps for trial in records.values()) <= 0.5 * 81


def test_asha_promotes_before_all_are_there() -> None:
    """Of the first three of nine the best goes on, of the first six the best two; the rest waits for all."""
    sweep = asha(9, 3, 3)
    trials = [
        Trial(id=number, overrides=sweep.candidates[number]).after_rung(
            (float(number),), steps=1, num_rungs=3
        )
        for number in range(8)
    ]
    starts = [Start(trial=number, overrides=sweep.candidates[number], stop_at_steps=1) for number in range(9)]
    assert sweep.propose([]) == starts
    assert sweep.propose(trials[:2]) == starts[2:]
    first, *others = (Promote(trial=number, stop_at_steps=3) for number in (2, 4, 5))
    assert sweep.propose(trials[:3]) == [*starts[3:], first]
    assert sweep.propose(trials) == [starts[8], first, *others]
    # Those that arrive early wait for the ones before them.
    assert sweep.propose([trials[2], trials[3], trials[4]]) == [
        starts[number] for number in (0, 1, 5, 6, 7, 8)
    ]


def test_rungs_by_default() -> None:
    """They are a factor of eta apart, and a single trial is left for the last one."""
    assert default_rungs(900, num_trials=9, eta=3) == (100, 300, 900)
    assert default_rungs(1000, num_trials=8, eta=3) == (333, 1000)
    assert default_rungs(100, num_trials=2, eta=4) == (100,)
    assert default_rungs(2, num_trials=81, eta=3) == (2,)


@given(trials=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_pbt_copies_the_best_and_moves_on_from_their_settings(trials: int, seed: int) -> None:
    """A quarter is replaced at every rung, by trials near the settings of one of the best quarter."""
    records, actions = play(lambda: pbt(trials, 2, 4), noise(seed), order=random.Random(seed))
    exploits = [action for action in actions if isinstance(action, Exploit)]
    count = max(1, trials // 4)
    for rung in range(1, 4):
        at_rung = [action for action in exploits if action.first_rung == rung]
        assert len(at_rung) == count
        there = [trial for trial in records.values() if trial.first_rung < rung <= trial.next_rung]
        values = sorted(
            (trial.value_at(rung - 1) for trial in there if trial.has_reached(rung - 1)), reverse=True
        )
        for action in at_rung:
            source = records[action.source]
            assert source.value_at(rung - 1) in values[:count]
            assert action.stop_at_steps == 100
            old = SPACE.values(source.overrides)["learner.learning_rate"]
            new = SPACE.values(action.overrides)["learner.learning_rate"]
            ratio = new / old
            assert 0.79 < ratio < 1.26 and (abs(ratio - 1) > 0.1 or new in (1e-4, 1e-1))
            assert records[action.trial].parent == action.source
    done = [trial for trial in records.values() if trial.state == TrialState.DONE]
    assert len(done) == trials


def test_pbt_copies_before_members_go_on() -> None:
    """A member that trains on writes newer checkpoints, so the copies of the old one come first."""
    sweep = pbt(4, 2, 3)
    trials = [
        Trial(id=number, overrides=sweep.candidates[number]).after_rung(
            (float(number),), steps=100, num_rungs=3
        )
        for number in range(4)
    ]
    kinds = [type(action).__name__ for action in sweep.propose(trials)]
    assert kinds == ["Exploit", "Stop", "Promote", "Promote", "Promote"]


def test_pbt_replaces_members_that_failed() -> None:
    """Two of four failed: both are replaced by copies of the best, and nobody else is."""
    sweep = pbt(4, 2, 2)
    members = [Trial(id=number, overrides=sweep.candidates[number]) for number in range(4)]
    trials = [
        members[0].after_failure(),
        members[1].after_rung((1.0,), steps=100, num_rungs=2),
        members[2].after_failure(),
        members[3].after_rung((2.0,), steps=100, num_rungs=2),
    ]
    exploits = [action for action in sweep.propose(trials) if isinstance(action, Exploit)]
    assert [(action.source, action.trial) for action in exploits] == [(3, 4), (3, 5)]
