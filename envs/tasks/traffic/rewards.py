"""Reward terms of the traffic task beside what `senses.py` has. S scenes of C cars."""

from __future__ import annotations

from torch import Tensor


def reward_progress(driven_m: Tensor) -> Tensor:
    """Return the metres driven along the route in this step. Shape: (S, C) -> (S, C)."""
    return driven_m.clamp(min=0.0)


def cost_deviation(lateral_m: Tensor) -> Tensor:
    """Return the squared distance from the middle of the lane [m^2]. Shape: (S, C) -> (S, C)."""
    return lateral_m.square()


def cost_effort(action: Tensor) -> Tensor:
    """Return the sum of squared actions. Shape: (S, C, 2) -> (S, C)."""
    return action.square().sum(-1)


def has_left_lane(along_route: Tensor, lateral_m: Tensor, *, half_lane_m: float) -> Tensor:
    """Return the cars whose centre is off the lane, or that drive against it. Shape: (S, C) bool.

    `along_route` is the cosine of the angle between car and route.
    """
    return (lateral_m.abs() > half_lane_m) | (along_route < 0.0)
