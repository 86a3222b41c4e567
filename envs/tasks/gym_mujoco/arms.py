"""Arms that reach and push."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from factory.envs.rendering.camera import Camera
from factory.envs.tasks.gym_mujoco.base import GymEnv
from factory.envs.tasks.gym_mujoco.config import PusherConfig, ReacherConfig

_TRIES = 16
"""Places drawn for the pusher's object; all are too near to the goal once in six million resets."""


class Arm(GymEnv):
    """An arm that is paid for nearness and pays for its actions."""

    def _setup(self) -> None:
        super()._setup()
        self._xpos = self.physics.field("xpos", precise=True)

    def _body(self, name: str) -> Tensor:
        """Return the place of a body. Shape: (num_envs, 3) float64 [m]."""
        return self._xpos[:, self.physics.model.body(name).id]


class Reacher(Arm):
    """Observation (num_envs, 10): joint cosines 2, sines 2, target 2, velocities 2, fingertip - target 2.

    Action (num_envs, 2).
    """

    config = ReacherConfig
    model_file = "reacher.xml"
    reward_terms = ("reward_dist", "reward_ctrl")
    camera = Camera(track=0, distance_m=0.65, azimuth_deg=90.0, elevation_deg=-60.0)

    def _setup(self) -> None:
        super()._setup()
        self._fingertip = self._body("fingertip")
        self._target = self._body("target")

    def _reset_envs(self, mask: Tensor) -> None:
        noise = self.uniform(-1.0, 1.0, 8)
        joints, _, velocities, for_radius, for_angle = noise.split([2, 2, 2, 1, 1], -1)

        # The goal is uniform over a disc of 0.2 m: the square root makes up for the area of the rings.
        radius = 0.2 * (0.5 * (for_radius[:, 0] + 1.0)).sqrt()
        angle = math.pi * for_angle[:, 0]
        goal = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
        qpos = torch.cat([self._start[:2] + 0.1 * joints, goal], -1)
        qvel = torch.cat([0.005 * velocities, torch.zeros_like(goal)], -1)
        self._write_state(qpos, qvel, mask)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        distance = (self._fingertip - self._target).norm(dim=-1)
        cfg = self.cfg
        terms = [-cfg.reward_dist_weight * distance, -cfg.reward_control_weight * self._control_cost()]
        return self._pack_step(terms, self._no_worlds)

    def _state(self) -> list[Tensor]:
        joints = self._qpos[:, :2]
        goal = self._qpos[:, 2:]
        return [joints.cos(), joints.sin(), goal, self._qvel[:, :2], (self._fingertip - self._target)[:, :2]]


class Pusher(Arm):
    """Observation (num_envs, 23): joints 7, their velocities 7, places of fingertip 3, object 3 and goal 3.

    Action (num_envs, 7).
    """

    config = PusherConfig
    model_file = "pusher_v5.xml"
    reward_terms = ("reward_dist", "reward_ctrl", "reward_near")
    camera = Camera(track="goal", distance_m=1.9, azimuth_deg=130.0, elevation_deg=-35.0)

    def _setup(self) -> None:
        super()._setup()
        self._places = [self._body(name) for name in ("tips_arm", "object", "goal")]
        self._table_low, self._table_size = torch.tensor([[-0.3, -0.2], [0.3, 0.4]], device=self.device)

    def _reset_envs(self, mask: Tensor) -> None:
        draws = self.uniform(0.0, 1.0, 7 + 2 * _TRIES)
        object_xy = self._draw_object(draws[:, 7:].unflatten(-1, (_TRIES, 2)))
        at_rest = torch.zeros(self.num_envs, 4, device=self.device)
        goal_xy = at_rest[:, :2]
        qpos = torch.cat([self._start[:-4].expand(self.num_envs, -1), object_xy, goal_xy], -1)
        self._write_state(qpos, torch.cat([0.01 * draws[:, :7] - 0.005, at_rest], -1), mask)

    def _draw_object(self, draws: Tensor) -> Tensor:
        """Return the first place that is far enough from the goal.

        Shapes: (num_envs, _TRIES, 2) -> (num_envs, 2).
        """
        # Gymnasium draws until a place is far enough; a fixed number of draws has a static shape.
        places = self._table_low + draws * self._table_size
        first = (places.norm(dim=-1) > 0.17).int().argmax(-1)
        return places.gather(1, first[:, None, None].expand(-1, 1, 2))[:, 0]

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        cfg = self.cfg
        fingertip, thing, goal = self._places
        miss = (thing - goal).norm(dim=-1)
        reach = (thing - fingertip).norm(dim=-1)
        effort = cfg.reward_control_weight * self._control_cost()
        return self._pack_step(
            [-cfg.reward_dist_weight * miss, -effort, -cfg.reward_near_weight * reach], self._no_worlds
        )

    def _state(self) -> list[Tensor]:
        return [self._qpos[:, :7], self._qvel[:, :7], *self._places]
