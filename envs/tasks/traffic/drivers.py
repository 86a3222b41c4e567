"""Rule drivers: the intelligent driver model, gap acceptance at conflicts, and pure pursuit.

Pure functions of a batch of scenes. Shapes: (..., cars), pairs (..., cars, cars).
"""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.traffic.conflicts import Conflicts
from factory.envs.tasks.traffic.vehicles import MOST_ACCELERATION, MOST_BRAKING, WIDTH_M, Relative

TIME_GAP_S = 1.2
"""Time gap to the car ahead [s]."""
STANDSTILL_M = 2.0
"""Gap to the car ahead at a standstill [m]."""
ACCELERATION = 2.0
BRAKING = 2.5
"""Comfortable acceleration and deceleration [m/s^2]."""
_FAR_M = 1e3
_CLEAR_M = 12.0
"""Way into a zone after which a car leaves room for one behind it [m]."""
_SAFETY_S = 1.5
"""Time that has to lie between two cars in a conflict zone [s]."""


def idm_acceleration(speed: Tensor, desired: Tensor, gap_m: Tensor, closing: Tensor) -> Tensor:
    """Return the acceleration of the intelligent driver model (Treiber et al. 2000) [m/s^2].

    Args:
        speed: own speed [m/s].
        desired: speed on a free road [m/s].
        gap_m: distance to the rear bumper of the car ahead [m].
        closing: own speed minus that of the car ahead [m/s].
    """
    # s* = s0 + max(0, v T + v dv / (2 sqrt(a b))),  a (1 - (v / v0)^4 - (s* / s)^2)
    dynamic = speed * TIME_GAP_S + speed * closing / (2.0 * (ACCELERATION * BRAKING) ** 0.5)
    wanted_gap = STANDSTILL_M + dynamic.clamp(min=0.0)
    free = 1.0 - (speed / desired.clamp(min=0.5)).pow(4)
    interaction = (wanted_gap / gap_m.clamp(min=0.1)).square()
    return (ACCELERATION * (free - interaction)).clamp(-MOST_BRAKING, MOST_ACCELERATION)


def leader_acceleration(speed: Tensor, desired: Tensor, pairs: Conflicts) -> Tensor:
    """Return the acceleration behind the cars ahead in shared stretches of the routes [m/s^2]."""
    # A car ahead is one further into the zone whose end is not behind it.
    is_ahead = pairs.exists & (pairs.gap_m > -1.0) & (pairs.other_in_m < 0.0)
    gap_m = torch.where(is_ahead, pairs.gap_m, _FAR_M)
    closing = speed[..., :, None] - speed[..., None, :]
    return _most_careful(speed, desired, gap_m, closing)


def yield_acceleration(speed: Tensor, desired: Tensor, pairs: Conflicts) -> Tensor:
    """Return the acceleration that leaves conflict zones to cars that come first [m/s^2].

    A car yields if it would be in the zone at the same time as another one that is in it already or reaches
    it first; the zone's begin is then an obstacle at rest. Cars that could not stop any more go on.
    """
    own_speed = speed[..., :, None].clamp(min=1.0)
    other_speed = speed[..., None, :].clamp(min=1.0)
    own_arrival = pairs.own_in_m.clamp(min=0.0) / own_speed
    other_arrival = pairs.other_in_m.clamp(min=0.0) / other_speed
    # Behind the first metres of a stretch in common, cars follow each other instead.
    own_leaving = torch.minimum(pairs.own_out_m, pairs.own_in_m + _CLEAR_M).clamp(min=0.0) / own_speed
    other_leaving = torch.minimum(pairs.other_out_m, pairs.other_in_m + _CLEAR_M).clamp(min=0.0) / other_speed
    meets = (own_arrival < other_leaving + _SAFETY_S) & (other_arrival < own_leaving + _SAFETY_S)

    # At equal times the car with the lower index goes first: no two wait for each other.
    index = torch.arange(speed.shape[-1], device=speed.device)
    order = 1e-3 * (index[:, None] - index)
    comes_first = other_arrival < own_arrival + order
    can_stop = pairs.own_in_m > speed[..., :, None].square() / (2.0 * MOST_BRAKING)
    is_before = pairs.other_in_m > -_CLEAR_M
    yields = pairs.exists & is_before & meets & comes_first & can_stop
    gap_m = torch.where(yields, pairs.own_in_m, _FAR_M)
    return _most_careful(speed, desired, gap_m, speed[..., :, None].expand_as(gap_m))


def cautious_acceleration(speed: Tensor, desired: Tensor, seen: Relative, on_road: Tensor) -> Tensor:
    """Return the acceleration of a driver who brakes for what is, or will be, ahead of the car [m/s^2].

    It knows no routes: others are expected to go straight on at their speed for two seconds.

    Args:
        speed: Shape: (..., cars) [m/s].
        desired: Shape: (..., cars) [m/s].
        seen: other cars in the own axes.
        on_road: pairs of different cars that both drive. Shape: (..., cars, cars) bool.
    """
    is_ahead = torch.zeros_like(on_road)
    gap_m = torch.full_like(seen.ahead_m, _FAR_M)
    other_speed = speed[..., None, :]
    for time_s in (0.0, 0.5, 1.0, 1.5, 2.0):
        ahead_m = seen.ahead_m + time_s * other_speed * seen.cos
        left_m = seen.left_m + time_s * other_speed * seen.sin
        reach_m = speed[..., :, None] * (time_s + 1.0) + 8.0
        # A corridor as wide as two half cars and some room beside them.
        is_in_way = (left_m.abs() < WIDTH_M + 0.4) & (ahead_m > 0.0) & (ahead_m < reach_m)
        gap_m = torch.where(is_in_way & on_road, torch.minimum(gap_m, ahead_m - 5.0), gap_m)
        is_ahead |= is_in_way
    # The part of the other's speed that leads away along the own axis closes no gap.
    closing = speed[..., :, None] - other_speed * seen.cos
    return _most_careful(speed, desired, gap_m, closing)


def _most_careful(speed: Tensor, desired: Tensor, gap_m: Tensor, closing: Tensor) -> Tensor:
    """Return the lowest acceleration that any other car demands. Shapes: (..., cars, cars) -> (..., cars)."""
    own = speed[..., :, None].expand_as(gap_m)
    free = desired[..., :, None].expand_as(gap_m)
    return idm_acceleration(own, free, gap_m, closing).amin(-1)
