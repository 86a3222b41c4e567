"""Actions of the rule drivers: baselines of the benchmark; `idm` is also the traffic of mixed populations."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.traffic.drivers import (
    cautious_acceleration,
    leader_acceleration,
    yield_acceleration,
)
from factory.envs.tasks.traffic.map_table import MapTable
from factory.envs.tasks.traffic.perception import Cars, Perception
from factory.envs.tasks.traffic.vehicles import (
    MOST_ACCELERATION,
    MOST_BRAKING,
)

RULES = ("pursuit", "pursuit_yield", "idm")
"""Rule drivers: blind pure pursuit; the same with braking for what is ahead; IDM with gap acceptance."""


def rule_actions(table: MapTable, cars: Cars, view: Perception, *, rule: str) -> Tensor:
    """Return the actions of rule drivers. Shape: (S, C, 2).

    Args:
        table: maps.
        cars: cars of all scenes.
        view: perception of the same cars.
        rule: one of `RULES`.
    """
    speed = cars.motion.speed
    desired = view.here[..., 4]
    acceleration = _free_acceleration(speed, desired)
    if rule == "pursuit_yield":
        careful = cautious_acceleration(speed, desired, view.seen, view.on_road)
        acceleration = torch.minimum(acceleration, careful)
    elif rule == "idm":
        leader = leader_acceleration(speed, desired, view.conflicts)
        yielding = yield_acceleration(speed, desired, view.conflicts)
        acceleration = torch.minimum(leader, yielding)
    pedal = torch.where(acceleration > 0.0, acceleration / MOST_ACCELERATION, acceleration / MOST_BRAKING)
    # All of them leave the steering to the lane keeper.
    return torch.stack([pedal, torch.zeros_like(pedal)], -1).clamp(-1.0, 1.0)


def _free_acceleration(speed: Tensor, desired: Tensor) -> Tensor:
    """Return the acceleration towards the recommended speed within about a second [m/s^2]."""
    return (1.5 * (desired - speed)).clamp(-MOST_BRAKING, MOST_ACCELERATION)
