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
    MOST_STEERING,
    pursuit,
)

RULES = ("pursuit", "pursuit_yield", "idm")
"""Rule drivers: blind pure pursuit; the same with braking for what is ahead; IDM with gap acceptance."""
_LOOK_AHEAD_S = 0.8
_LEAST_LOOK_AHEAD_M = 4.0


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
    steering = _steering(table, cars) / MOST_STEERING
    return torch.stack([pedal, steering], -1).clamp(-1.0, 1.0)


def _free_acceleration(speed: Tensor, desired: Tensor) -> Tensor:
    """Return the acceleration towards the recommended speed within about a second [m/s^2]."""
    return (desired - speed).clamp(-MOST_BRAKING, MOST_ACCELERATION)


def _steering(table: MapTable, cars: Cars) -> Tensor:
    """Return the angle of the front wheels that follows the route [rad]. Shape: (S, C)."""
    motion = cars.motion
    pose = motion.pose
    ahead = (_LOOK_AHEAD_S * motion.speed).clamp(min=_LEAST_LOOK_AHEAD_M)
    point = table.at(cars.route, cars.along_m + ahead)
    dx = point[..., 0] - motion.x
    dy = point[..., 1] - motion.y
    ahead_m = pose.cos * dx + pose.sin * dy
    left_m = pose.cos * dy - pose.sin * dx
    return pursuit(ahead_m, left_m, length_m=cars.length_m)
