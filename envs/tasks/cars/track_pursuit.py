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
_MOST_USED = 0.9
"""Share of the friction for which tyre slip is made up at most."""


class PurePursuit(Baseline):
    """Steer at a point of the centre line, as fast as a share of the friction allows.

    It reads state, map and all values drawn for the episode exactly from the environment. Steering: the arc
    through the point at the look-ahead distance (Coulter 1992, "Implementation of the Pure Pursuit Path
    Tracking Algorithm"), from where the car will be after its latency and lag, with the slip of the tyres
    made up for. Speed: v^2 |curvature| <= share * friction * g at every point ahead, with braking at the same
    share.
    """

    def __init__(
        self,
        env: TrainingEnv,
        *,
        friction_share: float = 0.7,
        braking_share: float = 0.5,
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
        require(least_lookahead_m > 0, "options.least_lookahead_m", least_lookahead_m, "must be positive")
        self.friction_share = friction_share
        self.braking_share = braking_share
        self.lookahead_s = lookahead_s
        self.least_lookahead_m = least_lookahead_m
        self._ahead_m = torch.arange(0.0, _HORIZON_M, _SPACING_M, device=env.device)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 2) and the memory, which is empty."""
        body = self.env.body
        speed = self.env.state.forward
        arc = self._arc()

        # Tyres slip in a bend, those in front more: their difference is added to the angle of rolling wheels.
        conditions = self.env.conditions
        used = (speed.square() * arc / (conditions.friction * GRAVITY)).clamp(-_MOST_USED, _MOST_USED)
        softness = (1.0 / body.front_stiffness - 1.0 / body.rear_stiffness) / conditions.stiffness
        slip = body.tyre_shape * torch.tan(used.asin() / body.tyre_shape) * softness
        steering = torch.atan(body.wheelbase_m * arc) + slip
        # Proportional control of the speed, limited below by what friction is left.
        acceleration = _SPEED_GAIN * (self._allowed_speed() - speed)
        # Hard braking unloads the rear axle, and the car spins; what the bend needs is left to it.
        grip = self.friction_share * GRAVITY * conditions.friction
        across = self.env.state.lateral_acceleration
        spare = (grip.square() - across.square()).clamp(min=0.0).sqrt()
        acceleration = torch.maximum(acceleration, -self.braking_share * spare)
        acceleration = torch.minimum(acceleration, spare)
        action = torch.stack([steering / body.steering_rad, acceleration / body.acceleration_m_per_s2], -1)
        return action.clamp(-1.0, 1.0), state

    def _arc(self) -> Tensor:
        """Return the curvature of the arc from the car to its target on the centre line. Shape: (N,)."""
        env = self.env
        car = env.state
        # From where the car will be when its wheels have turned, and along its course, not its axis.
        wait_s = env.latency_s + env.conditions.steering_lag_s
        course = car.yaw + torch.atan2(car.lateral, car.forward.clamp(min=0.5))
        way = car.forward * wait_s
        middle = course + 0.5 * wait_s * car.yaw_rate
        course = course + wait_s * car.yaw_rate
        # Farther ahead at high speed, or the steering would oscillate.
        lookahead = (self.lookahead_s * car.forward).clamp(min=self.least_lookahead_m)
        target = env.tracks.points(env.track, (env.place.along + way + lookahead)[:, None])[:, 0]
        offset_x = target[:, 0] - car.x - way * middle.cos()
        offset_y = target[:, 1] - car.y - way * middle.sin()
        across = offset_y * course.cos() - offset_x * course.sin()
        return 2.0 * across / (offset_x.square() + offset_y.square()).clamp(min=0.01)

    def _allowed_speed(self) -> Tensor:
        """Return the highest speed from which every bend ahead can be driven. Shape: (N,) [m/s]."""
        env = self.env
        grip = (self.friction_share * GRAVITY * env.conditions.friction)[:, None]
        rows = env.tracks.rows(env.track, env.place.along[:, None] + self._ahead_m)
        curvature = env.tracks.curvature[rows].abs().clamp(min=1e-3)
        # v^2 = v_bend^2 + 2 a distance.
        braking = self.braking_share * grip
        return (grip / curvature + 2.0 * braking * self._ahead_m).amin(-1).sqrt()
