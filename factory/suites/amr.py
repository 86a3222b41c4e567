"""`amr-v1`: a mobile robot drives through halls it has never seen, with a lidar and no map."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from factory.envs.core.task import TaskConfig
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.amr.config import AmrNavigateConfig
from factory.envs.tasks.amr.table import episode_table
from factory.suites.base import Suite


class AmrV1(Suite):
    """1024 episodes in 256 unseen halls of four kinds, and five shifted sets; docs/benchmarks/amr.md."""

    name: ClassVar[str] = "amr-v1"
    task: ClassVar[str] = AmrNavigateConfig.name
    splits: ClassVar[tuple[str, ...]] = ("test", "validation", "dense", "dynamic", "large", "noisy", "maze")
    combined: ClassVar[dict[str, tuple[str, ...]]] = {
        "collision": ("collision_static", "collision_mover", "struck"),
        "collision_at_fault": ("collision_static", "collision_mover"),
    }
    quantiles: ClassVar[dict[str, tuple[str, float]]] = {"clearance_p05_m": ("clearance_min_m", 0.05)}

    def task_config(self, split: str) -> TaskConfig:
        """Return the defaults of the task, with the episodes of a split."""
        return AmrNavigateConfig(episodes=split)

    def num_episodes(self, split: str) -> int:
        """Return 1024."""
        return episode_table(split).num_episodes

    def table_sha256(self, split: str) -> str:
        """Return the digest of halls, starts, goals and movers."""
        return episode_table(split).sha256

    def kinds(self, env: TrainingEnv, split: str) -> dict[str, Tensor]:
        """Return the episodes of each kind of hall."""
        kinds = episode_table(split).kinds()
        return {name: torch.from_numpy(mask) for name, mask in kinds.items()}
