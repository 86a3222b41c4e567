"""Search spaces as people write them on the command line."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.sweeps import space
from factory.floor.sweeps.space import Interval


def test_grid_is_every_combination_and_the_rest_is_fixed() -> None:
    """Lists, choices and ranges make a grid; other arguments belong to all trials."""
    parsed = space.parse(["task=cartpole_swingup", "learner.gamma=0.9,0.99", "seed=range(0,6,2)"])
    assert parsed.fixed == ("task=cartpole_swingup",)
    assert parsed.is_finite
    assert parsed.grid() == [
        (f"learner.gamma={gamma}", f"seed={seed}") for gamma in ("0.9", "0.99") for seed in (0, 2, 4)
    ]


def test_samples_of_a_grid_do_not_repeat() -> None:
    """As many as asked for, at most the grid, the same ones for the same seed."""
    parsed = space.parse(["seed=range(0,20)"])
    drawn = parsed.sample(12, seed=3)
    assert len(set(drawn)) == 12
    assert drawn == parsed.sample(12, seed=3) != parsed.sample(12, seed=4)
    assert sorted(parsed.sample(99, seed=3)) == sorted(parsed.grid())


def test_more_samples_of_an_interval_keep_the_first() -> None:
    """A sweep that is made longer has the same first trials."""
    parsed = space.parse(["learner.learning_rate=tag(log,interval(1e-4,1e-2))"])
    assert parsed.sample(9, seed=1)[:4] == parsed.sample(4, seed=1)
    rates = [float(override.partition("=")[2]) for (override,) in parsed.sample(300, seed=1)]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    below = sum(rate < 1e-3 for rate in rates)
    assert 110 < below < 190, "half of the logarithms are below the middle"


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e6), st.booleans(), st.integers(0, 99))
def test_values_stay_in_their_interval(low: float, factor: float, is_log: bool, seed: int) -> None:
    """Drawn, rounded and perturbed values are within the bounds."""
    interval = Interval(key="a", low=low, high=low * factor, is_log=is_log)
    rng = random.Random(seed)
    text = interval.sample(rng)
    for _ in range(9):
        assert low <= interval.parse(text) <= low * factor
        text = interval.perturb(text, rng)


def test_integers_stay_integers() -> None:
    """`int(interval(...))` draws integers, which perturbing keeps."""
    parsed = space.parse(["learner.num_steps=int(tag(log,interval(8,64)))"])
    for number in range(20):
        overrides = parsed.perturb(parsed.draw(random.Random(number)), random.Random(number))
        (value,) = parsed.values(overrides).values()
        assert isinstance(value, int) and 8 <= value <= 64
        assert parsed.overrides(parsed.values(overrides)) == overrides


def test_neighbours_of_a_choice() -> None:
    """A choice is perturbed to a value beside it."""
    (dimension,) = space.parse(["learner.gamma=0.9,0.95,0.99"]).dimensions
    seen = {dimension.perturb("0.95", random.Random(number)) for number in range(20)}
    assert seen == {"0.9", "0.99"}
    assert {dimension.perturb("0.9", random.Random(number)) for number in range(20)} == {"0.9", "0.95"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=0"], "no key varies"),
        (["seed=1,2", "seed=3,4"], "seed: given twice"),
        (["seed=choice(1)"], "seed=choice(1): one value is no choice"),
        (["seed=choice(1"], "seed=choice(1: give key=value"),
        (["learner.gamma=interval(1,0)"], "learner.gamma=interval(1,0): give interval(<low>,<high>)"),
        (["learner.gamma=tag(log,interval(0,1))"], "a logarithmic interval starts above 0"),
        (["seed=shuffle(1,2,3)"], "the order must be the same after a restart"),
        (["task=glob(*)"], "task=glob(*): list the options"),
    ],
    ids=str,
)
def test_mistakes_name_the_argument(arguments: list[str], expected: str) -> None:
    """Each is one line with the argument and the remedy."""
    with pytest.raises(ValueError) as raised:
        space.parse(arguments)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_interval_has_no_grid() -> None:
    """A grid of an interval is refused by key, and one that is too large by its size."""
    with pytest.raises(ValueError, match=r"learner\.gamma: an interval has no grid"):
        space.parse(["seed=1,2", "learner.gamma=interval(0,1)"]).grid()
    with pytest.raises(ValueError, match="1000000 combinations: at most 10000"):
        space.parse(["seed=range(0,1000)", "num_envs=range(1,1001)"]).grid()
