"""The ways in which cars come onto the road. S scenes of C cars; random numbers are in [0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.traffic.map_table import MapTable
from factory.envs.tasks.traffic.perception import Cars
from factory.envs.tasks.traffic.vehicles import LEAST_LENGTH_M, MOST_LENGTH_M

_GAP_S = 2.0
"""Time gap to the car ahead with which a car enters [s]."""


def places(table: MapTable, map_: Tensor, keys: Tensor, *, num_cars: int) -> tuple[Tensor, Tensor]:
    """Return a place for every car of a new scene, all different, and the cars that get one.

    Args:
        table: maps.
        map_: Shape: (S, 1).
        keys: random numbers, one for each place of the map with most of them. Shape: (S, places).
        num_cars: cars of a scene.

    Returns:
        Places (S, C), and True where there is one, (S, C).
    """
    most = keys.shape[1]
    number = torch.arange(most, device=keys.device)
    # In random order; the places that the map does not have come last.
    order = torch.where(number < table.num_places[map_], keys, 2.0).argsort(-1)[:, :num_cars]
    order = torch.nn.functional.pad(order, (0, num_cars - order.shape[1]), value=most)
    has_place = order < table.num_places[map_]
    return table.first_place[map_] + torch.where(has_place, order, 0), has_place


def is_free(table: MapTable, cars: Cars, index: Tensor, entry: Tensor, speed: Tensor) -> Tensor:
    """Return where an entry is free for `_GAP_S` at the speed of the car that wants to enter.

    Args:
        table: maps.
        cars: cars of all scenes.
        index: the car of each scene that wants to enter. Shape: (S, 1).
        entry: where it wants to. Shape: (S, 1).
        speed: its speed (S, 1) [m/s].

    Returns:
        True for a free entry. Shape: (S, 1).
    """
    needed_m = _GAP_S * speed + 0.5 * (cars.length_m.gather(1, index) + MOST_LENGTH_M)
    rear_m = cars.along_m - 0.5 * cars.length_m
    is_there = (table.entry[cars.route] == entry) & cars.is_driving
    return ~(is_there & (rear_m < needed_m)).any(-1, keepdim=True)


def new_cars(
    table: MapTable, entry: Tensor, along_m: Tensor, speed: Tensor, drawn: Tensor
) -> dict[str, Tensor]:
    """Return the state of cars that come onto the road, each on a random route of its entry, by name.

    Shapes: (S, C) or (S, 1); `drawn` (S, C, >= 2), random numbers.
    """
    route = table.first_route[entry] + (drawn[..., 0] * table.num_routes[entry]).long()
    x, y, cos, sin, _ = table.at(route, along_m).unbind(-1)
    zeros = torch.zeros_like(speed)
    nothing = ("steering", "acceleration", "lateral_m", "standing_s", "is_queued")
    return dict.fromkeys(nothing, zeros) | {
        "x": x,
        "y": y,
        "heading": torch.atan2(sin, cos),
        "speed": speed,
        "along_m": along_m,
        "start_m": along_m,
        "length_m": LEAST_LENGTH_M + (MOST_LENGTH_M - LEAST_LENGTH_M) * drawn[..., 1],
        "route": route,
        "is_driving": torch.ones_like(speed),
    }
