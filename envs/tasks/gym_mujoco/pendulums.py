"""Poles on carts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from factory.envs.tasks.gym_mujoco.base import GymEnv
from factory.envs.tasks.gym_mujoco.config import InvertedDoublePendulumConfig, InvertedPendulumConfig


class InvertedPendulum(GymEnv):
    """Observation (num_envs, 4): cart position, pole angle, their velocities. Action (num_envs, 1)."""

    config = InvertedPendulumConfig
    defines_fall = True
    model_file = "inverted_pendulum.xml"
    reward_terms = ("reward_survive",)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        upright = self._qpos[:, 1].abs() <= 0.2
        return self._pack_step([upright.double()], ~upright)


class InvertedDoublePendulum(GymEnv):
    """Observation (num_envs, 9): cart position, sines 2, cosines 2, velocities 3, constraint force.

    Velocities and the constraint force on the cart are clipped to 10. Action (num_envs, 1).
    """

    config = InvertedDoublePendulumConfig
    defines_fall = True
    model_file = "inverted_double_pendulum.xml"
    reward_terms = ("reward_survive", "distance_penalty", "velocity_penalty")
    normal_velocities = True

    def _setup(self) -> None:
        super()._setup()
        self._tip = self.physics.field("site_xpos", precise=True)[:, 0]
        self._cart_force = self.physics.field("qfrc_constraint", precise=True)[:, :1]

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        # The tip of the upper pole is 1.2 m above the cart when both stand.
        x = self._tip[:, 0]
        height = self._tip[:, 2]
        fallen = height <= 1.0
        distance = 0.01 * x.square() + (height - 2.0).square()
        speed = 1e-3 * self._qvel[:, 1].square() + 5e-3 * self._qvel[:, 2].square()
        return self._pack_step([self.cfg.healthy_reward * (~fallen).double(), -distance, -speed], fallen)

    def _state(self) -> list[Tensor]:
        cart = self._qpos[:, :1]
        angles = self._qpos[:, 1:]
        clipped = (self._qvel.clamp(-10.0, 10.0), self._cart_force.clamp(-10.0, 10.0))
        return [cart, angles.sin(), angles.cos(), *clipped]
