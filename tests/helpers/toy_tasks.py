"""Two small tasks that torch alone simulates: one point a world, and several that share one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation
from factory.envs.core.task import TaskConfig
from factory.envs.rendering.plan_view import Circle, PlanView, Scene


@dataclass(kw_only=True)
class PointConfig(TaskConfig):
    """Drive a point to the origin."""

    env: ClassVar[str] = "tests.helpers.toy_tasks:Point"
    engines: ClassVar[tuple[str, ...]] = ("none",)
    name: str = "toy_point"
    id: str = "toy/Point-v0"
    max_episode_steps: int = 20
    reach_m: float = 1.0
    """Largest distance of the start from the origin, in each direction [m]."""


class Point(EpisodeEnv):
    """Observation (num_envs, 2): position [m]. Action (num_envs, 2): velocity [m/s]."""

    config = PointConfig
    step_dt_s = 0.1
    persistent = ("position", "path_m")
    reward_terms = ("near",)
    outcomes = ("success", "left")
    episode_metrics = ("path_m", "time_to_goal_s")

    def _setup(self) -> None:
        self.position = torch.zeros(self.num_envs, 2, device=self.device)
        self.path_m = torch.zeros(self.num_envs, device=self.device)

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    def _reset_envs(self, mask: Tensor) -> None:
        start = self.uniform(-self.cfg.reach_m, self.cfg.reach_m, 2)
        self.position.copy_(torch.where(mask[:, None], start, self.position))
        self.path_m.masked_fill_(mask, 0.0)

    def _advance(self, action: Tensor) -> None:
        moved = self.step_dt_s * self.native_actions(action)
        self.position += moved
        self.path_m += moved.norm(dim=-1)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        near = 1.0 / (1.0 + self.position.square().sum(-1))
        left = self.position.abs().amax(-1) > 2.0
        arrived = self.position.norm(dim=-1) < 0.1
        time_s = self.step_dt_s * self.episode_steps
        metrics = {"path_m": self.path_m.clone(), "time_to_goal_s": time_s.masked_fill(~arrived, math.nan)}
        info = {"reward_terms": near[:, None], "outcome": left.long(), "episode_metrics": metrics}
        return near, left | arrived, info

    def _get_observations(self) -> Observation:
        return {"policy": self.position.clone()}


@dataclass(kw_only=True)
class CrowdConfig(PointConfig):
    """Drive points to the origin, which keep apart."""

    env: ClassVar[str] = "tests.helpers.toy_tasks:Crowd"
    name: str = "toy_crowd"
    id: str = "toy/Crowd-v0"
    agents_per_world: int = 2


class Crowd(PlanView, Point):
    """As `Point`, and each point observes the centre of its world's points."""

    config = CrowdConfig

    def _get_observations(self) -> Observation:
        grouped = self.position.view(self.num_worlds, self.agents_per_world, 2)
        centre = grouped.mean(1, keepdim=True).expand_as(grouped).reshape(-1, 2)
        return {"policy": torch.cat([self.position, centre], -1)}

    def scenes(self) -> list[Scene]:
        """Show the points."""
        worlds = self.position.view(self.num_worlds, self.agents_per_world, 2).numpy()
        return [
            Scene(
                shapes=[Circle(center=point, radius_m=0.1, fill=(0, 0, 0)) for point in world],
                center=(0.0, 0.0),
                span_m=4.0,
            )
            for world in worlds
        ]
