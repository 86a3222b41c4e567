"""Gymnasium's spaces for policies: flat observations, and actions in a fixed range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import iterate
from torch import Tensor, nn


def flat_size(space: gymnasium.Space[Any]) -> int:
    """Return the number of features of a flattened observation.

    Raises:
        ValueError: the space holds pictures or text, or has no fixed size.
    """
    if not space.is_np_flattenable:
        raise ValueError(f"its observations are {space}, which has no fixed size")
    # Gymnasium would flatten text and pictures into thousands of numbers, from which nothing is learned.
    for leaf in _leaves(space):
        if isinstance(leaf, spaces.Text):
            raise ValueError(
                "its observations hold text, which no policy here can read; leave it out with a wrapper,"
                " task.wrappers=[module:Wrapper]"
            )
        if _holds_pictures(leaf):
            raise ValueError(
                f"its observations hold pictures, uint8 of shape {leaf.shape}, which no policy here can see;"
                " take an environment with numbers for observations, or let task.kwargs ask this one for them"
            )
    return spaces.flatdim(space)


def flatten(env: gymnasium.vector.VectorEnv, obs: Any) -> np.ndarray:
    """Return `env`'s batch of observations as a copy, each as `gymnasium.spaces.flatten` has it.

    Shape: (num_envs, flat_size) float32.
    """
    # A Box needs no loop over environments, and most observations are one.
    single = env.single_observation_space
    if isinstance(single, spaces.Box):
        return np.array(obs, dtype=np.float32).reshape(env.num_envs, -1)
    return np.array(
        [spaces.flatten(single, one) for one in iterate(env.observation_space, obs)], dtype=np.float32
    )


class BoxActions(nn.Module):
    """Stretches [-1, 1] to the bounds of a box and clips; values without a bound pass unstretched.

    action = centre + reach * policy's, with reach = (high - low) / 2 and centre = (high + low) / 2
    """

    centre: Tensor
    reach: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.shape = space.shape
        low = torch.from_numpy(_rounded(space.low, towards=np.inf))
        high = torch.from_numpy(_rounded(space.high, towards=-np.inf))
        # A dimension that lacks a bound has no middle: its values pass as they are.
        reach = (high - low) / 2.0
        bounded = reach.isfinite()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("reach", torch.where(bounded, reach, 1.0))
        self.register_buffer("centre", torch.where(bounded, (high + low) / 2.0, 0.0))
        least = torch.where(bounded, -1.0, low).numpy()
        most = torch.where(bounded, 1.0, high).numpy()
        self.policy_space: gymnasium.Space[Any] = spaces.Box(least, most, dtype=np.float32)

    def forward(self, action: Tensor) -> Tensor:
        """Return actions of the box. Shape: (B, size) -> (B, *shape)."""
        clipped = (action * self.reach + self.centre).clamp(self.low, self.high)
        # A box of shape () takes a scalar.
        if not self.shape:
            return clipped.squeeze(-1)
        return clipped.unflatten(-1, self.shape)


class DiscreteActions(nn.Module):
    """Shift of choices 0, 1, ... to those of a space that starts elsewhere."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.start = int(space.start)
        self.policy_space: gymnasium.Space[Any] = spaces.Discrete(int(space.n))

    def forward(self, action: Tensor) -> Tensor:
        """Return choices of the space. Shape: (B,) int64 -> (B,)."""
        return action + self.start


def native_actions(space: gymnasium.Space[Any]) -> BoxActions | DiscreteActions:
    """Return a module that maps the actions in its `policy_space` to those of `space`.

    Raises:
        ValueError: no policy here can act in such a space.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return BoxActions(space)
    raise ValueError(f"its actions are {space}; policies here act in a Box of floats or a Discrete space")


def _rounded(bound: np.ndarray, *, towards: float) -> np.ndarray:
    """Return float64 bounds as float32 that lie within them: an environment may check. Shape: (size,)."""
    # 0.1 as float32 is 0.100000001: step back to the next number where rounding went outward.
    nearest = bound.astype(np.float32).flatten()
    if towards < 0:
        outside = nearest > bound.flatten()
    else:
        outside = nearest < bound.flatten()
    return np.where(outside, np.nextafter(nearest, np.float32(towards)), nearest)


def _holds_pictures(leaf: gymnasium.Space[Any]) -> bool:
    # Bytes in rows and columns up to 255; a vector of bytes is more likely a set of numbers.
    if not isinstance(leaf, spaces.Box) or leaf.dtype != np.uint8:
        return False
    return len(leaf.shape) > 1 and leaf.high.max() == 255


def _leaves(space: gymnasium.Space[Any]) -> Iterator[gymnasium.Space[Any]]:
    if isinstance(space, spaces.Dict):
        for part in space.spaces.values():
            yield from _leaves(part)
    elif isinstance(space, spaces.Tuple):
        for part in space.spaces:
            yield from _leaves(part)
    else:
        yield space
