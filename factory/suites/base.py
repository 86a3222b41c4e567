"""The interface of a suite: frozen rules of a benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from factory.envs.core.task import TaskConfig
from factory.envs.core.training_env import TrainingEnv


class Suite(ABC):
    """A benchmark: a task with fixed settings, and fixed lists of episodes."""

    name: ClassVar[str]
    """Name and version, `<name>-v<number>`; other rules are another version."""
    task: ClassVar[str]
    """Name of the task."""
    splits: ClassVar[tuple[str, ...]]
    """Lists of episodes, the first of them the one that counts."""
    combined: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Shares that are sums of outcomes, by name."""
    quantiles: ClassVar[dict[str, tuple[str, float]]] = {}
    """Quantiles of episode metrics by name: the metric and the share of episodes below."""

    @abstractmethod
    def task_config(self, split: str) -> TaskConfig:
        """Return the settings of the task; nothing of a run's own changes them."""

    @abstractmethod
    def num_episodes(self, split: str) -> int:
        """Return the number of episodes, a row of the environment for each."""

    @abstractmethod
    def table_sha256(self, split: str) -> str:
        """Return the digest of the episodes; results with different ones do not compare."""

    def kinds(self, env: TrainingEnv, split: str) -> dict[str, Tensor]:
        """Return masks of the episodes that are reported apart, by name. Shape: (num_episodes,)."""
        return {}

    def counted(self, env: TrainingEnv, split: str) -> Tensor:
        """Return the rows whose episodes count: all, unless others drive some. Shape: (rows,) bool."""
        return torch.ones(env.num_envs, dtype=torch.bool)
