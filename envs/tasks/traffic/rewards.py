"""Reward terms of the traffic task, and who is to blame. S scenes of C cars."""

from __future__ import annotations

from torch import Tensor

from factory.envs.tasks.traffic.perception import Perception
from factory.envs.tasks.traffic.vehicles import struck_from_behind


def reward_progress(driven_m: Tensor) -> Tensor:
    """Return the metres driven along the route in this step. Shape: (S, C) -> (S, C)."""
    return driven_m.clamp(min=0.0)


def cost_collision(view: Perception) -> Tensor:
    """Return 1 for every car in a contact that it is to blame for. Shape: (S, C).

    A car that is struck from behind must not pay for its follower.
    """
    blamed = view.touches & ~struck_from_behind(view.seen)
    return blamed.any(-1).float()


def cost_closeness(view: Perception) -> Tensor:
    """Return the imminence of the next contact at constant speeds, 0 to 1. Shape: (S, C)."""
    return view.imminence.amax(-1)


def cost_deviation(lateral_m: Tensor) -> Tensor:
    """Return the squared distance from the middle of the lane [m^2]. Shape: (S, C) -> (S, C)."""
    return lateral_m.square()


def cost_effort(action: Tensor) -> Tensor:
    """Return the sum of squared actions. Shape: (S, C, 2) -> (S, C)."""
    return action.square().sum(-1)


def is_in_contact(view: Perception) -> Tensor:
    """Return the cars that touch another one. Shape: (S, C) bool."""
    return view.touches.any(-1)


def has_left_lane(view: Perception, heading: Tensor, lateral_m: Tensor, *, half_lane_m: float) -> Tensor:
    """Return the cars whose centre is off the lane, or that drive against it. Shape: (S, C) bool."""
    # Cosine of the angle between car and route; negative where the car drives the wrong way.
    along = heading.cos() * view.here[..., 2] + heading.sin() * view.here[..., 3]
    return (lateral_m.abs() > half_lane_m) | (along < 0.0)
