"""A cascade of velocity, attitude and rate control, the baseline of both drone tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.drones.drone import RATE_LIMITS
from factory.envs.vehicles.quadrotor import GRAVITY, rotation, to_body
from factory.policies.base import Observations
from factory.validation import require

_LEAST_LIFT = 3.0
"""The wanted acceleration of the rotors points up at least this much [m/s^2]: the drone stays upright."""
_MOST_PUSH = 12.0
"""Largest wanted horizontal acceleration [m/s^2]."""


class Cascade(Baseline):
    """Fly straight to the target at a fixed speed.

    It reads state, targets and all values drawn for the episode exactly from the environment. Velocity to
    acceleration: proportional, with gravity and drag made up for. Acceleration to attitude: the rotors' axis
    turns to the wanted force (Mellinger and Kumar 2011, "Minimum snap trajectory generation and control for
    quadrotors"), by body rates in proportion to the angle; the rate controller is on board.
    """

    def __init__(
        self,
        env: TrainingEnv,
        *,
        speed_m_per_s: float = 3.0,
        velocity_gain_per_s: float = 4.0,
        attitude_gain_per_s: float = 10.0,
    ) -> None:
        """Take the speed and both gains.

        Raises:
            ValueError: a value is out of its range, or the task takes other actions.
        """
        super().__init__(env)
        action = self.env.cfg.action
        require(action == "rates", "task.action", action, "baseline=cascade needs task.action=rates")
        require(speed_m_per_s > 0, "options.speed_m_per_s", speed_m_per_s, "must be positive")
        for key, gain in (
            ("velocity_gain_per_s", velocity_gain_per_s),
            ("attitude_gain_per_s", attitude_gain_per_s),
        ):
            require(gain > 0, f"options.{key}", gain, "must be positive")
        self.speed_m_per_s = speed_m_per_s
        self.velocity_gain_per_s = velocity_gain_per_s
        self.attitude_gain_per_s = attitude_gain_per_s
        self._rate_limits = torch.tensor(RATE_LIMITS, device=env.device)[:, None]

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 4) and the memory, which is empty."""
        env = self.env
        drone = env.state
        conditions = env.conditions
        way = env.aim() - drone.position
        wanted = self.speed_m_per_s * way / way.norm(dim=0).clamp(min=1e-6)
        push = self.velocity_gain_per_s * (wanted - drone.velocity)
        push = push - conditions.drag_per_s * (conditions.wind - drone.velocity)
        level = push[:2]
        # Shortened where it is too long, in the same direction.
        level = level * (_MOST_PUSH / level.norm(dim=0).clamp(min=_MOST_PUSH))
        lift = (push[2:] + GRAVITY).clamp(min=_LEAST_LIFT)
        push = torch.cat([level, lift])

        matrix = rotation(drone.attitude)
        (ahead,) = to_body(push[None], matrix)
        # The part along the rotors' axis; the rest has to wait until the drone has turned.
        thrust = ahead[2] * conditions.mass / (conditions.thrust * GRAVITY)
        axis = ahead / ahead.norm(dim=0)
        # The turn that brings z onto the wanted axis: e_z x axis, as long as the sine of its angle.
        turn = torch.stack([-axis[1], axis[0], torch.zeros_like(thrust)])
        rates = self.attitude_gain_per_s * turn / self._rate_limits
        action = torch.cat([thrust[None] - 1.0, rates])
        return action.clamp(-1.0, 1.0).t(), state
