"""Pure pursuit of the centre line at a speed that its bends allow, the baseline of the race track."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.vehicles.single_track import GRAVITY
from factory.policies.base import Observations
from factory.validation import require

_HORIZON_M = 12.0
_SPACING_M = 0.25
"""The speed of the line is looked up ahead as far as a car may need to brake."""
_SPEED_GAIN = 4.0
"""Acceleration for each m/s that the car is too slow [1/s]."""


class PurePursuit(Baseline):
    """Steer at a point of the centre line, as fast as a share of the friction allows.

    It reads place, speed, map and the friction of the episode exactly from the environment. Steering: the arc
    through the point at the look-ahead distance (Coulter 1992, "Implementation of the Pure Pursuit Path
    Tracking Algorithm"). Speed: v^2 |curvature| <= share * friction * g at every point ahead, with braking at
    the same share.
    """

    def __init__(
        self,
        env: TrainingEnv,
        *,
        friction_share: float = 0.7,
        lookahead_s: float = 0.25,
        least_lookahead_m: float = 0.6,
    ) -> None:
        """Take the share of the friction to use, and the look-ahead as driving time and as least distance.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__(env)
        require(0 < friction_share <= 1, "options.friction_share", friction_share, "must be in (0, 1]")
        require(lookahead_s > 0, "options.lookahead_s", lookahead_s, "must be positive")
        require(
            least_lookahead_m > 0, "options.least_lookahead_m", least_lookahead_m, "must be positive"
        )
        self.friction_share = friction_share
        self.lookahead_s = lookahead_s
        self.least_lookahead_m = least_lookahead_m
        self._ahead_m = torch.arange(0.0, _HORIZON_M, _SPACING_M, device=env.device)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 2) and the memory, which is empty."""
        env = self.env
        car = env.state
        body = env.body
        lookahead = (self.lookahead_s * car.forward).clamp(min=self.least_lookahead_m)
        target = env.tracks.points(env.track, (env.along + lookahead)[:, None])[:, 0]

        # Curvature of the arc from the car through the target: 2 y / d^2 in the car's frame.
        offset_x = target[:, 0] - car.x
        offset_y = target[:, 1] - car.y
        across = offset_y * car.yaw.cos() - offset_x * car.yaw.sin()
        arc = 2.0 * across / (offset_x.square() + offset_y.square()).clamp(min=0.01)
        steering = torch.atan(body.wheelbase_m * arc)

        # The slowest of what every point ahead allows: v^2 = v_bend^2 + 2 a distance.
        grip = (self.friction_share * GRAVITY * env.conditions.friction)[:, None]
        rows = env.tracks.rows(env.track, env.along[:, None] + self._ahead_m)
        curvature = env.tracks.curvature[rows].abs().clamp(min=1e-3)
        braking = grip.clamp(max=body.acceleration_m_per_s2)
        speed = (grip / curvature + 2.0 * braking * self._ahead_m).amin(-1).sqrt()
        acceleration = _SPEED_GAIN * (speed - car.forward)
        action = torch.stack([steering / body.steering_rad, acceleration / body.acceleration_m_per_s2], -1)
        return action.clamp(-1.0, 1.0), state
