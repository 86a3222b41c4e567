"""The interface of baselines, the two that fit every task, and their choice by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.task import TaskConfig
from factory.envs.core.training_env import TrainingEnv
from factory.policies.base import Observations
from factory.registry import load
from factory.validation import require

COMMON = {"zero": "factory.baselines.base:Zero", "random": "factory.baselines.base:Random"}
"""Baselines of every task with continuous actions."""


class Baseline(ABC):
    """A controller of all worlds of `env`, played like a policy.

    It may read the environment beyond the observation, as a planner reads a map; its docstring says what it
    reads. Options are keywords of its constructor.
    """

    def __init__(self, env: TrainingEnv) -> None:
        """Control the worlds of `env`."""
        self.env: Any = env

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the memory at the start of an episode; most baselines have none. Shape: (num_envs, size)."""
        return torch.zeros(num_envs, 0, device=self.env.device)

    @abstractmethod
    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, A) and the next memory (num_envs, size)."""


class Zero(Baseline):
    """The action next to zero, always."""

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, A) and the memory, which is empty."""
        low, high = _bounds(self.env)
        return torch.zeros_like(low).clamp(low, high).expand(self.env.num_envs, -1), state


class Random(Baseline):
    """Actions drawn uniformly from the action space, anew in every control step."""

    def __init__(self, env: TrainingEnv) -> None:
        """Draw from a generator of its own, so that equal evaluations draw equal actions."""
        super().__init__(env)
        self.generator = torch.Generator(device=env.device).manual_seed(0)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, A) and the memory, which is empty."""
        low, high = _bounds(self.env)
        size = (self.env.num_envs, low.numel())
        # The environment's generator stays untouched: another baseline meets the same episodes.
        share = torch.rand(size, generator=self.generator, device=self.env.device)
        return low + (high - low) * share, state


def choices(task: TaskConfig) -> dict[str, str]:
    """Return the baselines of a task by name."""
    return {**task.baselines, **COMMON}


def make_baseline(name: str, task: TaskConfig, env: TrainingEnv, options: Mapping[str, Any]) -> Baseline:
    """Build the baseline `name` of a task, for the worlds of `env`.

    Raises:
        ValueError: the task has no such baseline, or an option is wrong.
    """
    known = choices(task)
    require(name in known, "baseline", name, f"choose one of {', '.join(known)} with task={task.name}")
    try:
        return load(known[name])(env, **options)
    except TypeError as error:
        raise ValueError(f"options={dict(options)}: not those of baseline={name} ({error})") from error


def _bounds(env: TrainingEnv) -> tuple[Tensor, Tensor]:
    """Return the bounds of an action. Shapes: (A,).

    Raises:
        ValueError: actions are not continuous and bounded.
    """
    space = env.single_action_space
    bounded = isinstance(space, Box) and space.is_bounded()
    require(bounded, "baseline", "zero or random", f"actions of this task are {space}, not a bounded box")
    assert isinstance(space, Box)
    low, high = (torch.as_tensor(end, device=env.device) for end in (space.low, space.high))
    return low, high
