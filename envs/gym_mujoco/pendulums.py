"""Poles on carts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from envs.batch_env import Observation
from envs.gym_mujoco.base import GymEnv
from envs.gym_mujoco.config import InvertedPendulumConfig


class InvertedPendulum(GymEnv):
    """Observation (num_envs, 4): cart position, pole angle, their velocities. Action (num_envs, 1)."""

    config = InvertedPendulumConfig
    model_file = "inverted_pendulum.xml"
    reward_terms = ("reward_survive",)

    def _after_physics(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        upright = self._qpos[:, 1].abs() <= 0.2
        return self._outcome([upright.double()], ~upright)

    def _observe(self) -> Observation:
        return {"policy": torch.cat([self._qpos, self._qvel], -1).float()}


make_inverted_pendulum = InvertedPendulum.single
