"""Parking down the cost to go of a grid of poses, the baseline of the parking task."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.cars import parking_lots
from factory.envs.tasks.cars.parking_costs import (
    ARC_M,
    ARCS,
    DEAD_END_M,
    MARGIN_M,
    Pose,
    cost_to_go,
    is_parked,
    look_up,
    roll_arc,
)
from factory.envs.tasks.cars.parking_lots import CAR
from factory.policies.base import Observations
from factory.validation import require

_TURNAROUND_M = 1.0
"""Way that a change of direction is worth."""
_PATIENCE_RAD = 0.3
"""The car waits while its wheels are this far from where they shall be."""


class Planner(Baseline):
    """Drive down the cost to go of a grid of poses (`parking_costs`), computed once for the tightest lot.

    It reads pose, steering, latency and map exactly from the environment. In every control step the car takes
    the arc that touches nothing and ends at the lowest cost; a change of direction costs extra.
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
        self.cost = cost_to_go().to(env.device)

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the direction of travel, 0 at the start. Shape: (num_envs, 1)."""
        return torch.zeros(num_envs, 1, device=self.env.device)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 2) and the direction of travel (num_envs, 1)."""
        car = self.env.state
        # From where the car will be when an action given now arrives, and from there as far as it takes to
        # stop, if it already drives in that direction.
        wait_s = self.env.latency_s + self.env.step_dt_s
        start = roll_arc(car.x, car.y, car.yaw, car.steering, car.speed * wait_s)
        arcs = torch.tensor(ARCS, device=car.x.device)
        costs = [self._cost_of_arc(start, share, direction, state[:, 0]) for share, direction in arcs]
        share, direction = arcs[torch.stack(costs).argmin(0)].unbind(-1)

        # Where it stands: the wheels first, then the way; and slowly at the end.
        here = look_up(self.cost, car.x, car.y, car.yaw)
        waits = (share * CAR.steering_rad - car.steering).abs() > _PATIENCE_RAD
        stands = waits | is_parked(car.x, car.y, car.yaw)
        pace = (2.0 * here / ARC_M).clamp(0.25, 1.0) * self.speed_m_per_s
        speed = direction * pace.masked_fill(stands, 0.0)
        return torch.stack([share, speed / 2.0], -1), direction[:, None]

    def _cost_of_arc(self, start: Pose, share: Tensor, direction: Tensor, before: Tensor) -> Tensor:
        """Return the cost of driving on along an arc, for cars that drove `before`. Shape: (N,)."""
        speed = self.env.state.speed
        steering = (share * CAR.steering_rad).expand_as(speed)
        way = (0.5 * ARC_M * direction).expand_as(speed)
        stop_m = (direction * speed).clamp(min=0.0).square() / (2.0 * CAR.acceleration_m_per_s2)
        end = roll_arc(*start, steering, way)
        touches = torch.zeros_like(speed, dtype=torch.bool)
        for pose in (end, roll_arc(*start, steering, way + direction * stop_m)):
            touches |= self.env.gaps(parking_lots.body_box(*pose)).amin(-1) < MARGIN_M
        turned = before * direction < 0.0
        return look_up(self.cost, *end) + _TURNAROUND_M * turned + DEAD_END_M * touches
