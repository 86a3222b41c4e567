"""Parking by dynamic programming on a grid of poses, the baseline of the parking task.

Sizes: A arcs, Y x P x X poses of the grid, N worlds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool3d

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.cars import parking_lots
from factory.envs.tasks.cars.parking_lots import CAR, GOAL_Y_M, GOAL_YAW, SLOT_WIDTH_M
from factory.envs.vehicles.boxes import Boxes, gap
from factory.policies.base import Observations
from factory.validation import require

Pose = tuple[Tensor, Tensor, Tensor]
"""x [m], y [m] and yaw [rad] of rear axles."""

_SPACING_M = 0.25
_SIDE_M = 11.0
"""The grid reaches this far to both sides of the slot."""
_NUM_YAWS = 48
_TOP_M = 6.0
_STEERINGS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Steering angles of the arcs, as shares of the largest one."""
_ARC_M = 0.6
_NEAR_M = 0.26
_NEAR_RAD = math.radians(8.0)
"""Pose that counts as the goal; success allows 0.3 m and 10 degrees."""
_CONVERGED_M = 0.1
"""The iteration ends when no cost changes by more in a sweep."""
_DEAD_END_M = 60.0
"""Cost of poses from which no way is known."""
_BLOCKED_M = 1.0
_MARGIN_M = 0.05
_TURNAROUND_M = 1.0
"""Way that a change of direction is worth."""
_PATIENCE_RAD = 0.3
"""The car waits while its wheels are this far from where they shall be."""


class Planner(Baseline):
    """Drive down the cost to go of a grid of poses, computed once for the tightest lot.

    It reads pose and steering exactly from the environment, and knows the narrowest slot and aisle, and the
    largest and worst placed neighbours, that may be drawn: a way that is free there is free in every lot. The
    cost to go is the length of arcs forward and backward, by value iteration with interpolation (Munos and
    Moore 2002, "Variable Resolution Discretization in Optimal Control"). In every control step the car takes
    the arc with the lowest cost, and a change of direction costs extra.
    """

    def __init__(self, env: TrainingEnv, *, speed_m_per_s: float = 1.0) -> None:
        """Compute the cost to go, a few seconds of work, and drive at a speed.

        Raises:
            ValueError: the speed is out of its range.
        """
        super().__init__(env)
        in_range = 0 < speed_m_per_s <= 2.0
        require(in_range, "options.speed_m_per_s", speed_m_per_s, "must be in (0, 2]")
        self.speed_m_per_s = speed_m_per_s
        self.cost = _cost_to_go().to(env.device)

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the direction of travel, 0 at the start. Shape: (num_envs, 1)."""
        return torch.zeros(num_envs, 1, device=self.env.device)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 2) and the direction of travel (num_envs, 1)."""
        car = self.env.state
        # From where the car will be when an action given now arrives, and from there as far as it takes to
        # stop, if it already drives in that direction.
        wait_s = self.env.latency_s + self.env.step_dt_s
        start = _roll_arc(car.x, car.y, car.yaw, car.steering, car.speed * wait_s)
        arcs = torch.tensor(_arcs(), device=car.x.device)
        costs = [self._cost_of_arc(start, share, direction, state[:, 0]) for share, direction in arcs]
        share, direction = arcs[torch.stack(costs).argmin(0)].unbind(-1)

        # Where it stands: the wheels first, then the way; and slowly at the end.
        here = _look_up(self.cost, car.x, car.y, car.yaw)
        waits = (share * CAR.steering_rad - car.steering).abs() > _PATIENCE_RAD
        stands = waits | _is_parked(car.x, car.y, car.yaw)
        pace = (2.0 * here / _ARC_M).clamp(0.25, 1.0) * self.speed_m_per_s
        speed = direction * pace.masked_fill(stands, 0.0)
        return torch.stack([share, speed / 2.0], -1), direction[:, None]

    def _cost_of_arc(self, start: Pose, share: Tensor, direction: Tensor, before: Tensor) -> Tensor:
        """Return the cost of driving on along an arc, for cars that drove `before`. Shape: (N,)."""
        speed = self.env.state.speed
        steering = (share * CAR.steering_rad).expand_as(speed)
        way = (0.5 * _ARC_M * direction).expand_as(speed)
        stop_m = (direction * speed).clamp(min=0.0).square() / (2.0 * CAR.acceleration_m_per_s2)
        end = _roll_arc(*start, steering, way)
        touches = torch.zeros_like(speed, dtype=torch.bool)
        for pose in (end, _roll_arc(*start, steering, way + direction * stop_m)):
            touches |= self.env.gaps(parking_lots.body_box(*pose)).amin(-1) < _MARGIN_M
        turned = before * direction < 0.0
        return _look_up(self.cost, *end) + _TURNAROUND_M * turned + _DEAD_END_M * touches


def _is_parked(x: Tensor, y: Tensor, yaw: Tensor) -> Tensor:
    """Return where the middle of the car is well inside the tolerance of a success."""
    off_x = x + CAR.center_m * yaw.cos()
    off_y = y + CAR.center_m * yaw.sin() - GOAL_Y_M
    return (torch.hypot(off_x, off_y) < _NEAR_M) & (torch.cos(yaw - GOAL_YAW) > math.cos(_NEAR_RAD))


def _arcs() -> list[tuple[float, float]]:
    """Return steering share and direction of the A arcs."""
    return [(steering, direction) for direction in (1.0, -1.0) for steering in _STEERINGS]


def _axes() -> tuple[Tensor, Tensor, Tensor]:
    """Return the grid's yaws (Y,), and its places y (P,) and x (X,)."""
    yaw = GOAL_YAW + torch.arange(_NUM_YAWS) * (math.tau / _NUM_YAWS)
    # The goal is a point of the grid.
    y = torch.arange(GOAL_Y_M + CAR.center_m - _SPACING_M, _TOP_M, _SPACING_M)
    x = torch.arange(-_SIDE_M, _SIDE_M + 0.5 * _SPACING_M, _SPACING_M)
    return yaw, y, x


def _roll_arc(x: Tensor, y: Tensor, yaw: Tensor, steering: Tensor, way: Tensor) -> Pose:
    """Return poses after `way` [m] at a steering angle [rad]."""
    turn = way * steering.tan() / CAR.wheelbase_m
    mean_yaw = yaw + 0.5 * turn
    return x + way * mean_yaw.cos(), y + way * mean_yaw.sin(), yaw + turn


def _look_up(cost: Tensor, x: Tensor, y: Tensor, yaw: Tensor) -> Tensor:
    """Return the interpolated cost of poses of any shape."""
    _, rows, columns = _axes()
    # The first yaw is repeated behind the last; `grid_sample` counts from -1 to 1 between the outer points.
    volume = torch.cat([cost, cost[:1]])[None, None]
    around = ((yaw - GOAL_YAW) / math.tau).remainder(1.0)
    up = (y - float(rows[0])) / float(rows[-1] - rows[0])
    across = (x - float(columns[0])) / float(columns[-1] - columns[0])
    where = 2.0 * torch.stack([across, up, around], -1) - 1.0
    found = grid_sample(volume, where.view(1, 1, 1, -1, 3), align_corners=True, padding_mode="border")
    return found.view(x.shape)


def _cost_to_go() -> Tensor:
    """Return the length of the shortest known way to the goal from every pose. Shape: (Y, P, X) [m]."""
    yaw, y, x = torch.meshgrid(*_axes(), indexing="ij")
    blocked = ~_is_free(x, y, yaw)
    at_goal = _is_parked(x, y, yaw)
    cost = torch.full_like(x, _DEAD_END_M).masked_fill_(at_goal, 0.0)
    arcs = torch.tensor(_arcs()) * torch.tensor([CAR.steering_rad, _ARC_M])
    ends = [_roll_arc(x, y, yaw, steering, way) for steering, way in arcs]
    walls = torch.stack([~_is_free(*end) for end in ends]) * _DEAD_END_M
    change = math.inf
    while change > _CONVERGED_M:
        before = cost
        ways = torch.stack([_look_up(cost, *end) for end in ends]) + walls + _ARC_M
        # Blocked poses count a little more than those beside them: interpolation next to a wall looks at
        # both, and the end of every arc has been checked by itself.
        beside = -max_pool3d(-cost[None], 3, stride=1, padding=1)[0] + _BLOCKED_M
        cost = torch.where(blocked, torch.minimum(cost, beside), torch.minimum(cost, ways.amin(0)))
        change = float((before - cost).amax())
    return cost


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
    return clearance > _MARGIN_M
