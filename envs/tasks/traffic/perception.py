"""Everything that cars know about each other: contacts, times to collision, conflicts and observations.

Pure functions. S scenes of C cars.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from factory.envs.tasks.traffic.config import NEIGHBOUR_FEATURES
from factory.envs.tasks.traffic.conflicts import Conflicts, conflicts
from factory.envs.tasks.traffic.map_table import SPEED_LIMIT, MapTable
from factory.envs.tasks.traffic.vehicles import (
    MOST_BRAKING,
    MOST_LENGTH_M,
    MOST_STEERING,
    Motion,
    Pose,
    Relative,
    overlaps,
    relative,
)

HORIZONS_S = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Times at which the cars' places are predicted [s]; the first is now, the last shows their intention."""
LEVELS = tuple((2.5 - time_s) / 2.0 for time_s in HORIZONS_S)
"""Imminence of a contact at each of these times; one now is a contact, and not imminent."""
PREVIEW_M = (3.0, 6.0, 10.0, 16.0, 24.0)
"""Distances of the points of the route that a car observes [m]."""
REACH_M = 45.0
"""Distance within which other cars are observed [m]."""


class Cars(NamedTuple):
    """The cars of all scenes. Shapes: (S, C)."""

    motion: Motion
    acceleration: Tensor
    """Acceleration of the last step [m/s^2]."""
    route: Tensor
    along_m: Tensor
    """Distance driven along the route [m]."""
    lateral_m: Tensor
    """Distance to the left of the route [m]."""
    length_m: Tensor
    standing_s: Tensor
    """Time since the car stopped [s]; 0 if it moves."""
    is_driving: Tensor
    """True for cars on the road, bool."""


class Perception(NamedTuple):
    """All that cars know about each other. Shapes: (S, C, C); [s, i, j] is car j as car i sees it."""

    here: Tensor
    """Point of the route at each car, see `MapTable.points`. Shape: (S, C, 5)."""
    seen: Relative
    intention: Relative
    """Point at which the other car will be in 2 s on its route, seen from the own place now."""
    touches: Tensor
    """Pairs of cars in contact, bool."""
    imminence: Tensor
    """0 if the two do not meet within 2 s at constant speeds on their routes; else (2.5 s - time) / 2 s."""
    conflicts: Conflicts
    on_road: Tensor
    """Pairs of different cars that both drive, bool."""


def perceive(table: MapTable, cars: Cars) -> Perception:
    """Return what cars know about each other."""
    motion = cars.motion
    half_length_m = 0.5 * cars.length_m
    num_cars = cars.route.shape[-1]
    others = ~torch.eye(num_cars, dtype=torch.bool, device=cars.route.device)
    on_road = cars.is_driving[:, :, None] & cars.is_driving[:, None, :] & others

    # Every car goes on along its route, as far from the middle of the lane as now. Shape: (5, S, C).
    along_m = torch.stack([cars.along_m + time_s * motion.speed for time_s in HORIZONS_S])
    points = table.at(cars.route.expand_as(along_m), along_m)
    x, y, cos, sin, _ = points.unbind(-1)
    # The unit vector to the left of the route is (-sin, cos).
    later = Pose(x - sin * cars.lateral_m, y + cos * cars.lateral_m, cos, sin)
    now = motion.pose
    poses = Pose(*(torch.cat([first[None], rest[1:]]) for first, rest in zip(now, later, strict=True)))
    between = relative(poses)
    meets = overlaps(between, half_length_m.expand_as(along_m)) & on_road
    # Of all times the first counts.
    imminence = torch.zeros_like(between.cos[0])
    for index in range(len(HORIZONS_S) - 1, 0, -1):
        imminence = torch.where(meets[index], LEVELS[index], imminence)
    return Perception(
        here=points[0],
        seen=Relative(*(value[0] for value in between)),
        intention=relative(now, Pose(*(value[-1] for value in later))),
        touches=meets[0],
        imminence=imminence,
        conflicts=conflicts(table, cars.route, cars.along_m, half_length_m, cars.is_driving),
        on_road=on_road,
    )


def observe(table: MapTable, cars: Cars, view: Perception, *, neighbours: int) -> Tensor:
    """Return observations: a car's own features, then those of its `neighbours` nearest cars.

    Shape: (S, C, OWN_FEATURES + neighbours * NEIGHBOUR_FEATURES). Features are about 1 in size; a neighbour
    that is not there, or too far, is zeros.

    Args:
        table: maps.
        cars: cars of all scenes.
        view: perception of the same cars.
        neighbours: number of neighbours.
    """
    own = _own_features(table, cars, view)
    pairs = _neighbour_features(cars, view)
    distance = view.seen.ahead_m.square() + view.seen.left_m.square()
    is_near = view.on_road & (distance < REACH_M**2)
    pairs = pairs * is_near[..., None]
    others = _nearest(pairs, torch.where(is_near, distance, torch.inf), neighbours)
    return torch.cat([own, others.flatten(-2)], -1) * cars.is_driving[..., None]


def _nearest(pairs: Tensor, distance: Tensor, count: int) -> Tensor:
    """Return the features of the `count` nearest other cars, zeros where there are not as many.

    Shapes: (S, C, C, F), (S, C, C) -> (S, C, count, F).
    """
    scenes, cars, _, size = pairs.shape
    if count < cars - 1:
        index = distance.topk(count, dim=-1, largest=False).indices
        return pairs.gather(2, index[..., None].expand(-1, -1, -1, size))
    if cars == 1:
        return pairs.new_zeros(scenes, 1, count, size)
    # All others: of C x C entries, every (C + 1)th belongs to the car itself.
    entries = pairs.reshape(scenes, cars * cars, size)[:, 1:].unflatten(1, (cars - 1, cars + 1))
    others = entries[:, :, :-1].reshape(scenes, cars, cars - 1, size)
    missing = others.new_zeros(scenes, cars, count - cars + 1, size)
    return torch.cat([others, missing], 2)


def _own_features(table: MapTable, cars: Cars, view: Perception) -> Tensor:
    """Return the features of a car itself. Shape: (S, C, OWN_FEATURES)."""
    motion = cars.motion
    pose = motion.pose
    _, _, route_cos, route_sin, recommended = view.here.unbind(-1)
    remaining_m = table.length_m[cars.route] - cars.along_m
    features = [
        motion.speed / SPEED_LIMIT,
        (recommended - motion.speed) / SPEED_LIMIT,
        motion.steering / MOST_STEERING,
        cars.acceleration / MOST_BRAKING,
        cars.lateral_m,
        # Sine and cosine of the angle between car and route.
        pose.sin * route_cos - pose.cos * route_sin,
        pose.cos * route_cos + pose.sin * route_sin,
        (remaining_m / 50.0).clamp(max=2.0),
        cars.length_m / MOST_LENGTH_M,
        (cars.standing_s / 5.0).clamp(max=1.0),
    ]
    along_m = torch.stack([cars.along_m + ahead_m for ahead_m in PREVIEW_M], -1)
    points = table.at(cars.route[..., None].expand_as(along_m), along_m)
    dx = points[..., 0] - motion.x[..., None]
    dy = points[..., 1] - motion.y[..., None]
    ahead_m = pose.cos[..., None] * dx + pose.sin[..., None] * dy
    left_m = pose.cos[..., None] * dy - pose.sin[..., None] * dx
    return torch.cat([torch.stack(features, -1), ahead_m / PREVIEW_M[-1], left_m / PREVIEW_M[-1]], -1)


def _neighbour_features(cars: Cars, view: Perception) -> Tensor:
    """Return the features of all pairs. Shape: (S, C, C, NEIGHBOUR_FEATURES)."""
    seen = view.seen
    meeting = view.conflicts
    own_speed = cars.motion.speed[:, :, None].expand_as(seen.cos)
    other_speed = cars.motion.speed[:, None, :].expand_as(seen.cos)
    distance_m = (seen.ahead_m.square() + seen.left_m.square()).clamp(min=1.0).sqrt()
    # The rate at which the distance falls: the difference of velocities along the line between both.
    along = seen.ahead_m * (own_speed - other_speed * seen.cos)
    across = seen.left_m * other_speed * seen.sin
    closing = (along - across) / distance_m

    exists = meeting.exists.float()
    own_in_m = meeting.own_in_m.clamp(min=0.0)
    other_in_m = meeting.other_in_m.clamp(min=0.0)
    own_arrival_s = own_in_m / own_speed.clamp(min=1.0)
    other_arrival_s = other_in_m / other_speed.clamp(min=1.0)
    zone_m = meeting.own_out_m - meeting.own_in_m
    features = [
        torch.ones_like(exists),
        seen.ahead_m / REACH_M,
        seen.left_m / REACH_M,
        seen.cos,
        seen.sin,
        other_speed / SPEED_LIMIT,
        closing / SPEED_LIMIT,
        view.intention.ahead_m / REACH_M,
        view.intention.left_m / REACH_M,
        exists * (-own_in_m / 15.0).exp(),
        exists * (-other_in_m / 15.0).exp(),
        # Positive: the other one arrives first, or is ahead in the zone.
        exists * ((own_arrival_s - other_arrival_s) / 2.0).tanh(),
        exists * (meeting.gap_m / 10.0).tanh(),
        exists * (zone_m / 30.0).clamp(max=1.0),
        view.imminence,
        (cars.standing_s / 5.0).clamp(max=1.0)[:, None, :].expand_as(exists),
    ]
    assert len(features) == NEIGHBOUR_FEATURES
    return torch.stack(features, -1)
