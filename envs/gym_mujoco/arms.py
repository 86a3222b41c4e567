"""Arms that reach and push."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from envs.batch_env import Observation
from envs.gym_mujoco.base import GymEnv
from envs.gym_mujoco.config import ReacherConfig


class Arm(GymEnv):
    """An arm that is paid for nearness and pays for its actions."""

    def _bind(self) -> None:
        super()._bind()
        self._xpos = self.physics.field("xpos", precise=True)

    def _body(self, name: str) -> Tensor:
        """Return the place of a body. Shape: (num_envs, 3) float64 [m]."""
        return self._xpos[:, self.physics.model.body(name).id]


class Reacher(Arm):
    """Observation (num_envs, 10): cosines, sines of the joints 4, target 2, joint velocities 2, fingertip - target 2."""

    config = ReacherConfig
    model_file = "reacher.xml"
    reward_terms = ("reward_dist", "reward_ctrl")

    def _bind(self) -> None:
        super()._bind()
        self._fingertip, self._target = self._body("fingertip"), self._body("target")

    def _reset_worlds(self, mask: Tensor) -> None:
        noise = self.uniform(-1.0, 1.0, 8)
        radius, angle = 0.2 * (0.5 * (noise[:, 6] + 1.0)).sqrt(), math.pi * noise[:, 7]
        goal = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
        qpos = torch.cat([self._start[:2] + 0.1 * noise[:, :2], goal], -1)
        qvel = torch.cat([0.005 * noise[:, 4:6], torch.zeros_like(goal)], -1)
        self._write_state(qpos, qvel, mask)

    def _after_physics(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        distance = (self._fingertip - self._target).norm(dim=-1)
        cfg = self.cfg
        terms = [-cfg.reward_dist_weight * distance, -cfg.reward_control_weight * self._ctrl_cost()]
        return self._outcome(terms, self._never)

    def _observe(self) -> Observation:
        joints, goal = self._qpos[:, :2], self._qpos[:, 2:]
        miss = (self._fingertip - self._target)[:, :2]
        return {"policy": torch.cat([joints.cos(), joints.sin(), goal, self._qvel[:, :2], miss], -1).float()}


make_reacher = Reacher.single
