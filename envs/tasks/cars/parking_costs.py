"""The way that is left to a parking place: a table by dynamic programming, for the tightest lot.

Sizes: A arcs, Y x P x X poses of the grid.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool3d

from factory.envs.tasks.cars import parking_lots
from factory.envs.tasks.cars.parking_lots import CAR, GOAL_Y_M, GOAL_YAW, SLOT_WIDTH_M
from factory.envs.vehicles.boxes import Boxes, gap

Pose = tuple[Tensor, Tensor, Tensor]
"""x [m], y [m] and yaw [rad] of rear axles."""

ARC_M = 0.6
"""Length of an arc."""
ARCS = [(share, direction) for direction in (1.0, -1.0) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]
"""Steering angles of the A arcs, as shares of the largest one, and their directions."""
DEAD_END_M = 60.0
"""Cost of poses from which no way is known."""
MARGIN_M = 0.05
"""Least gap along a way."""
_SPACING_M = 0.25
_SIDE_M = 11.0
"""The grid reaches this far to both sides of the slot."""
_NUM_YAWS = 48
_NUM_ROWS = 30
_BOTTOM_M = GOAL_Y_M + CAR.center_m - _SPACING_M
_HEIGHT_M = (_NUM_ROWS - 1) * _SPACING_M
"""The goal is a point of the second row; the highest row is above the middle of any aisle."""
_CONVERGED_M = 0.1
"""The iteration ends when no cost changes by more in a sweep."""
_BLOCKED_M = 1.0
_NEAR_M = 0.26
_NEAR_RAD = math.radians(8.0)
"""Pose that counts as the goal; success allows 0.3 m and 10 degrees."""


def is_parked(x: Tensor, y: Tensor, yaw: Tensor) -> Tensor:
    """Return where the middle of the car is well inside the tolerance of a success."""
    off_x = x + CAR.center_m * yaw.cos()
    off_y = y + CAR.center_m * yaw.sin() - GOAL_Y_M
    return (torch.hypot(off_x, off_y) < _NEAR_M) & (torch.cos(yaw - GOAL_YAW) > math.cos(_NEAR_RAD))


def roll_arc(x: Tensor, y: Tensor, yaw: Tensor, steering: Tensor, way: Tensor) -> Pose:
    """Return poses after `way` [m] at a steering angle [rad]."""
    turn = way * steering.tan() / CAR.wheelbase_m
    mean_yaw = yaw + 0.5 * turn
    return x + way * mean_yaw.cos(), y + way * mean_yaw.sin(), yaw + turn


def look_up(costs: Tensor, x: Tensor, y: Tensor, yaw: Tensor) -> Tensor:
    """Return interpolated costs of poses of any shape. Shape of `costs`: (Y + 1, P, X)."""
    # `grid_sample` counts from -1 to 1 between the outer points.
    where = torch.stack([x / _SIDE_M, 2.0 * (y - _BOTTOM_M) / _HEIGHT_M - 1.0, 2.0 * _turns(yaw) - 1.0], -1)
    found = grid_sample(
        costs[None, None], where.view(1, 1, 1, -1, 3), align_corners=True, padding_mode="border"
    )
    return found.view(x.shape)


def _turns(yaw: Tensor) -> Tensor:
    """Return the angle from the goal's heading as a share of a turn, in [0, 1)."""
    return ((yaw - GOAL_YAW) / math.tau).remainder(1.0)


@functools.lru_cache(maxsize=1)
def cost_to_go() -> Tensor:
    """Return the length of the shortest known way to the goal from every pose.

    Value iteration with interpolation (Munos and Moore 2002, "Variable Resolution Discretization in Optimal
    Control") over arcs forward and backward; a few seconds of work. Shape: (Y + 1, P, X) [m]; the first yaw
    is repeated behind the last.
    """
    yaw, y, x = torch.meshgrid(
        GOAL_YAW + torch.arange(_NUM_YAWS) * (math.tau / _NUM_YAWS),
        _BOTTOM_M + torch.arange(_NUM_ROWS) * _SPACING_M,
        torch.linspace(-_SIDE_M, _SIDE_M, round(2.0 * _SIDE_M / _SPACING_M) + 1),
        indexing="ij",
    )
    blocked = ~_is_free(x, y, yaw)
    cost = torch.full_like(x, DEAD_END_M).masked_fill_(is_parked(x, y, yaw), 0.0)
    arcs = torch.tensor(ARCS) * torch.tensor([CAR.steering_rad, ARC_M])
    ends = [roll_arc(x, y, yaw, steering, way) for steering, way in arcs]
    walls = torch.stack([~_is_free(*end) for end in ends]) * DEAD_END_M
    change = math.inf
    while change > _CONVERGED_M:
        before = cost
        around = torch.cat([cost, cost[:1]])
        # Bellman: the cost of a pose is that of the best arc, its length and what is left from its end.
        ways = torch.stack([look_up(around, *end) for end in ends]) + walls + ARC_M
        # Blocked poses count a little more than those beside them: interpolation next to a wall looks at
        # both, and the end of every arc has been checked by itself.
        wrapped = torch.cat([cost[-1:], around])
        beside = -max_pool3d(-wrapped[None], 3, stride=1, padding=(0, 1, 1))[0] + _BLOCKED_M
        cost = torch.where(blocked, torch.minimum(cost, beside), torch.minimum(cost, ways.amin(0)))
        change = float((before - cost).amax())
    # The lot is its own mirror image, but rounding decides which poses next to a wall are free.
    mirrored = cost[-torch.arange(_NUM_YAWS)].flip(-1)
    cost = 0.5 * (cost + mirrored)
    return torch.cat([cost, cost[:1]])


def _is_free(x: Tensor, y: Tensor, yaw: Tensor) -> Tensor:
    """Return where a car touches nothing in the tightest lot: a block lies on either side of the slot."""
    body = parking_lots.body_box(x, y, yaw)
    clearance = parking_lots.wall_gaps(body, torch.full_like(x, parking_lots.AISLE_M[0])).amin(-1)
    inner = SLOT_WIDTH_M[0] - parking_lots.PARKED_REACH_M[0]
    upper = GOAL_Y_M + parking_lots.PARKED_REACH_M[1]
    half_length = torch.full_like(x, 0.5 * _SIDE_M)
    half_width = torch.full_like(x, 0.5 * (upper + parking_lots.DEPTH_M))
    for side in (-1.0, 1.0):
        block = Boxes(
            torch.full_like(x, side * (inner + 0.5 * _SIDE_M)),
            torch.full_like(x, 0.5 * (upper - parking_lots.DEPTH_M)),
            torch.zeros_like(x),
            half_length,
            half_width,
        )
        clearance = torch.minimum(clearance, gap(body, block))
    return clearance > MARGIN_M
