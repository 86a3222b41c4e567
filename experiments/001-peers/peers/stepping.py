"""Times `step` of numpy environments with random actions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from peers.serving import Measure, steps_per_s

SETTLE_STEPS = 50
"""Control steps before the first measurement, so that not all worlds are at the start of an episode."""


def random_actions(space: Any, num_envs: int) -> Iterator[np.ndarray]:
    """Return an endless supply of uniform actions, drawn beforehand. Shape: (num_envs, action_size)."""
    rng = np.random.default_rng(0)
    drawn = rng.uniform(space.low, space.high, (SETTLE_STEPS, num_envs, *space.shape)).astype(space.dtype)
    return itertools.cycle(drawn)


def stepping(env: Any, space: Any, num_envs: int) -> Measure:
    """Return how to time `env.step`; `space` is that of one world's action."""
    actions = random_actions(space, num_envs)

    ended = np.zeros(num_envs, bool)
    calls = executed = 0

    def step() -> int:
        nonlocal ended, calls, executed
        calls, executed = (
            calls + 1,
            executed + num_envs - int(ended.sum()),
        )  # NEXT_STEP: who ended is reset now
        _, _, terminated, truncated, _ = env.step(next(actions))
        ended = terminated | truncated
        return num_envs

    def measure(seconds: float) -> dict[str, float]:
        calls_before, executed_before = calls, executed
        rate = steps_per_s(step, seconds)
        share = (executed - executed_before) / ((calls - calls_before) * num_envs)
        return {"steps_per_s": rate, "executed_steps_per_s": rate * share}

    env.reset()
    for _ in range(SETTLE_STEPS):
        step()
    return measure
