"""Sound values, and the short look that is enough for most steps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.envs.core.soundness import LIMIT, surely_sound, unsound

NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(rows=st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=4))
def test_the_short_look_never_passes_what_the_long_one_finds(rows: list[list[float]]) -> None:
    """Numbers of any size, of opposite signs, infinite or none."""
    values = torch.tensor(rows)
    if surely_sound(values[:, 0], values[:, 1:]):
        assert not unsound(values[:, 0], values[:, 1:]).any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 2.0 * LIMIT, -2.0 * LIMIT])
def test_one_bad_number_fails_the_short_look(value: float) -> None:
    """It does so although another one cancels it, and in a view that skips entries."""
    observation = torch.ones(8, 3)
    assert surely_sound(observation, observation[:, 1])
    observation[3, 1] = value
    observation[5, 1] = -value
    assert not surely_sound(observation)
    assert not surely_sound(torch.ones(8), observation[:, 1])
    assert unsound(observation).nonzero().flatten().tolist() == [3, 5]
