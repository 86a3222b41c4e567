"""`traffic-v1`: cars cross junctions that they have never seen, among their kind or among rule drivers."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from factory.envs.core.task import TaskConfig
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.traffic.config import TrafficConfig
from factory.envs.tasks.traffic.junctions import road_map
from factory.suites.base import Suite

_SPLITS: dict[str, dict[str, Any]] = {
    "test": {"maps": "test", "num_maps": 64},
    "validation": {"maps": "validation", "num_maps": 64},
    "topology": {"maps": "topology", "num_maps": 32},
    "dense": {"maps": "test", "num_maps": 64, "agents_per_world": 16},
    "mixed": {"maps": "test", "num_maps": 64, "rule_drivers": 4},
    "rules": {"maps": "test", "num_maps": 64, "rule_drivers": 7},
}
"""Settings of every list: unseen maps, unseen kinds of junctions, and other populations on unseen maps."""
_EPISODES = 1024


class TrafficV1(Suite):
    """1024 cars on unseen maps, their first episodes; docs/benchmarks/traffic.md."""

    name: ClassVar[str] = "traffic-v1"
    task: ClassVar[str] = TrafficConfig.name
    splits: ClassVar[tuple[str, ...]] = tuple(_SPLITS)

    def task_config(self, split: str) -> TrafficConfig:
        """Return the defaults of the task, with the maps and the population of a split."""
        return TrafficConfig(**_SPLITS[split])

    def num_episodes(self, split: str) -> int:
        """Return the rows that 1024 cars without rules take, with those of the rule drivers around them."""
        cfg = self.task_config(split)
        return _EPISODES // (cfg.agents_per_world - cfg.rule_drivers) * cfg.agents_per_world

    def table_sha256(self, split: str) -> str:
        """Return the digest of the routes of all maps, in millimetres, and of the task's settings."""
        cfg = self.task_config(split)
        digest = hashlib.sha256(repr(sorted(_fixed(cfg).items())).encode())
        for index in range(cfg.num_maps):
            # In whole millimetres, since floating point may differ in the last digit between machines.
            for route in road_map(cfg.maps, index).routes:
                digest.update((route.points * 1000.0).round().astype("<i4").tobytes())
        return digest.hexdigest()

    def kinds(self, env: TrainingEnv, split: str) -> dict[str, Tensor]:
        """Return the cars on each kind of junction."""
        own: Any = env.unwrapped
        cfg = self.task_config(split)
        scene = torch.arange(env.num_envs) // cfg.agents_per_world
        # Scenes take the maps in turn, see `Traffic._begin_scenes`.
        kind_of = [own.kinds[index] for index in (scene % cfg.num_maps).tolist()]
        return {kind: torch.tensor([found == kind for found in kind_of]) for kind in dict.fromkeys(kind_of)}

    def counted(self, env: TrainingEnv, split: str) -> Tensor:
        """Return the cars that no rules drive."""
        own: Any = env.unwrapped
        return ~own.is_rule_driven.cpu()


def _fixed(cfg: TaskConfig) -> dict[str, Any]:
    """Return the settings that decide the episodes."""
    names = ("maps", "num_maps", "agents_per_world", "rule_drivers", "max_episode_steps")
    return {name: asdict(cfg)[name] for name in names}
