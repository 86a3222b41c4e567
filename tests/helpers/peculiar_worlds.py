"""Environments of the kind that published packages hold, each with one property that adapters get wrong."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Walker(gymnasium.Env):
    """Walks along a line and arrives after five steps; observes place and last action."""

    observation_space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (1,), np.float32)
    render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return self.observe(0.0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += 1
        arrived = self.place == 5
        return self.observe(float(np.sum(action))), 1.0, arrived, False, self.report(arrived)

    def observe(self, action: float) -> Any:
        return np.array([self.place, action], np.float32)

    def report(self, arrived: bool) -> dict[str, Any]:
        return {}


class Guarded(Walker):
    """Checks its actions against bounds that float32 cannot hold."""

    action_space = spaces.Box(-0.1, 0.3, (2,), np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return super().step(action)


class OneKnob(Walker):
    """Its action is a number without a dimension, and so is its observation."""

    action_space = spaces.Box(-2.0, 2.0, (), np.float32)
    observation_space = spaces.Box(-np.inf, np.inf, (), np.float32)

    def observe(self, action: float) -> Any:
        return np.array(action, np.float32)


class ShortSeed(Walker):
    """Passes its seed to code that takes 32 signed bits."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None and not 0 <= seed < 2**31:
            raise OverflowError(f"seed {seed}")
        return super().reset(seed=seed, options=options)


class TwoHands(Walker):
    """Reports success for each of two hands, of which the second is successful only if `both`."""

    def __init__(self, both: bool = True) -> None:
        self.both = both

    def report(self, arrived: bool) -> dict[str, Any]:
        return {"success": np.array([arrived, arrived and self.both])}


class Traveller(Walker):
    """Ends an episode by succeeding."""

    def report(self, arrived: bool) -> dict[str, Any]:
        return {"is_success": arrived}


class Reader(Walker):
    """Is told in words where to go."""

    observation_space = spaces.Dict(
        {"order": spaces.Text(10), "place": spaces.Box(-np.inf, np.inf, (1,), np.float32)}
    )

    def observe(self, action: float) -> Any:
        return {"order": "north", "place": np.array([self.place], np.float32)}


class Mute(Walker):
    """Fails without a message, when it is built or in a step."""

    def __init__(self, at_once: bool = True) -> None:
        assert not at_once

    def report(self, arrived: bool) -> dict[str, Any]:
        raise AssertionError


class BatchWithoutLimit(gymnasium.vector.VectorEnv):
    """A batched version whose constructor takes no time limit."""

    def __init__(self, num_envs: int) -> None:
        raise NotImplementedError


def numbers_only(env: gymnasium.Env) -> gymnasium.Env:
    """Leave text out of the observation."""
    return gymnasium.wrappers.FilterObservation(env, ["place"])


def register() -> None:
    """Put them into Gymnasium's registry: `peculiar/Walker-v0` and so on, and one with a batched version."""
    for env in (Walker, Guarded, OneKnob, ShortSeed, TwoHands, Traveller, Reader, Mute):
        name = f"peculiar/{env.__name__}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=env, max_episode_steps=20)
    if "peculiar/Batch-v0" not in gymnasium.registry:
        gymnasium.register(id="peculiar/Batch-v0", entry_point=Walker, vector_entry_point=BatchWithoutLimit)


register()
