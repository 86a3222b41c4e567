"""Docking along the axis of the dock, to compare with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.amr.controllers import path_bearing
from factory.envs.tasks.amr.docking import NUM_FEATURES, SPEED_M_PER_S, DockError, seen_error
from factory.envs.tasks.amr.robot import MAX_TURN_RAD_PER_S, NUM_BEAMS
from factory.policies.base import Observations

_PACE_M_PER_S = 0.5
_BEFORE_M = 1.3
"""Distance from the dock, along its axis, at which the robot shall be on the axis."""
_LOOKAHEAD_M = 0.45
_AXIS_M = 0.1
"""Distance from the axis within which the robot drives on along it."""
_MISSED_M = 0.012
"""Distance from the axis at the dock beyond which the robot backs out again."""
_END_M = 0.008
"""Distance before the dock at which the robot stops and turns."""


class AlongAxis(Baseline):
    """Drives to a point on the dock's axis before the guides, then along the axis, and backs out of a miss.

    It reads the dock's pose from the `policy` observation, and is blind to guides, boxes and walls. Its
    memory holds 1 while it backs out.
    """

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the memory at the start of an episode. Shape: (num_envs, 1)."""
        return torch.zeros(num_envs, 1, device=self.env.device)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 2) and the memory (num_envs, 1)."""
        error = seen_error(obs["policy"][:, NUM_BEAMS : NUM_BEAMS + NUM_FEATURES])
        low, high = SPEED_M_PER_S
        # The robot's place in the frame of the dock: before it, and to the side of its axis.
        cos = error.angle.cos()
        sin = error.angle.sin()
        before = cos * error.x + sin * error.y
        aside = cos * error.y - sin * error.x

        is_missed = (before < 2.0 * _END_M) & (aside.abs() > _MISSED_M)
        backs = (is_missed | (state[:, 0] > 0.0)) & (before < 0.6)
        bearing = self._bearing(error, before, aside)
        # Slower towards the dock, but never at rest before it.
        pace = torch.minimum(torch.full_like(before, _PACE_M_PER_S), 0.8 * before.clamp(min=0.0) + 0.02)
        # The more it has to turn, the slower it drives; beyond 0.8 rad it turns on the spot.
        speed = pace * (1.0 - bearing.abs() / 0.8).clamp(min=0.0)
        turn = 2.5 * bearing
        # At the end, on the spot to the dock's heading; backward, along the axis.
        ends = (before < _END_M) & ~backs
        speed = torch.where(ends, 0.0, speed)
        turn = torch.where(ends, 2.5 * error.angle, turn)
        speed = torch.where(backs, low, speed)
        turn = torch.where(backs, 2.0 * error.angle, turn)
        pedal = 2.0 * (speed - low) / (high - low) - 1.0
        action = torch.stack([pedal, turn / MAX_TURN_RAD_PER_S], -1)
        return action.clamp(-1.0, 1.0), backs.float()[:, None]

    def _bearing(self, error: DockError, before: Tensor, aside: Tensor) -> Tensor:
        """Return the bearing of the point to drive to. Shapes: (N,) -> (N,) [rad]."""
        is_on_axis = (aside.abs() < _AXIS_M) & (before < _BEFORE_M + _LOOKAHEAD_M)
        # A point on the axis: always ahead of the robot, even where the dock is nearer than that.
        short = torch.where(is_on_axis, before - _LOOKAHEAD_M, _BEFORE_M)
        target_x = error.x - short * error.angle.cos()
        target_y = error.y - short * error.angle.sin()
        return torch.atan2(target_y, target_x)


class AlongPath(AlongAxis):
    """Follows the shortest path up to the axis, then drives as `AlongAxis`; it knows map and true pose."""

    def __init__(self, env: TrainingEnv) -> None:
        """Prepare the directions that the path may take."""
        super().__init__(env)
        self._angles = torch.arange(64, device=env.device) * (math.tau / 64)

    def _bearing(self, error: DockError, before: Tensor, aside: Tensor) -> Tensor:
        along_path = path_bearing(self.env, self._angles, lookahead_m=0.3)
        is_on_axis = (aside.abs() < _AXIS_M) & (before < _BEFORE_M)
        return torch.where(is_on_axis, super()._bearing(error, before, aside), along_path)
