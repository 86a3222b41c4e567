"""Conflicts of two cars on their routes: stretches that both will pass, and the time until they meet there.

Shapes: (..., cars, cars); entry [..., i, j] is about car j as car i sees it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from factory.envs.tasks.traffic.map_table import MapTable


class Conflicts(NamedTuple):
    """The next zone that two cars' routes share. Shapes: (..., cars, cars)."""

    exists: Tensor
    """True where both cars still have a zone before them or are in it, bool."""
    own_in_m: Tensor
    """Distance of the own front bumper from the zone, negative within [m]."""
    own_out_m: Tensor
    """Distance of the own rear bumper from the zone's end [m]."""
    other_in_m: Tensor
    other_out_m: Tensor
    gap_m: Tensor
    """Distance of the other car's rear bumper before the own front bumper, measured from the zone's begin.

    Positive where the other car is ahead [m].
    """


def conflicts(
    table: MapTable, route: Tensor, along_m: Tensor, half_length_m: Tensor, is_driving: Tensor
) -> Conflicts:
    """Return the conflicts of all pairs of cars of every scene.

    Args:
        table: maps.
        route: Shape: (..., cars).
        along_m: distance from the entry (..., cars) [m].
        half_length_m: half of the cars' lengths (..., cars) [m].
        is_driving: cars that are on the road. Shape: (..., cars) bool.
    """
    num_cars = route.shape[-1]
    shape = (*route.shape, num_cars)
    zones = table.zones_of(route[..., :, None].expand(shape), route[..., None, :].expand(shape))
    own = along_m[..., :, None]
    other = along_m[..., None, :]
    own_half = half_length_m[..., :, None]
    other_half = half_length_m[..., None, :]

    # The second zone counts once either car has left the first.
    own_rear = own - own_half
    other_rear = other - other_half
    has_left = (own_rear > zones.own_out[..., 0]) | (other_rear > zones.other_out[..., 0])
    own_in, own_out, other_in, other_out = (
        torch.where(has_left, column[..., 1], column[..., 0]) for column in zones
    )
    own_out_m = own_out - own_rear
    other_out_m = other_out - other_rear
    on_road = is_driving[..., :, None] & is_driving[..., None, :]
    exists = (own_out_m > 0.0) & (other_out_m > 0.0) & on_road
    exists &= ~torch.eye(num_cars, dtype=torch.bool, device=route.device)
    # Fronts count where cars come in, rears where they leave.
    own_in_m = own_in - own - own_half
    other_in_m = other_in - other - other_half
    # In the zone both routes are alike, so that distances from its begin compare.
    gap_m = own_in_m - other_in_m - 2.0 * other_half
    return Conflicts(exists, own_in_m, own_out_m, other_in_m, other_out_m, gap_m)
