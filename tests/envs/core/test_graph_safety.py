"""The control step of every task is made of what a CUDA graph can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
import torch

import factory.envs  # noqa: F401  registers the tasks
from factory.envs.core.graph_safety import GraphUnsafeError, check_graph_safety, graph_safe, unguarded
from factory.registry import TASKS
from tests.helpers.rows import whole_worlds

TASK_IDS = tuple(task.id for task in TASKS.values() if not task.example)
MASK = torch.tensor([True, False])


@pytest.mark.parametrize(
    "unsafe",
    [
        lambda: MASK.any().item(),
        lambda: bool(MASK.any()),
        lambda: float(torch.ones(2).sum()),
        lambda: torch.ones(2).tolist(),
        lambda: torch.ones(2).numpy(),
        lambda: torch.ones(2).cpu(),
        lambda: MASK.nonzero(),
        lambda: torch.where(MASK),
        lambda: torch.ones(2)[MASK],
        lambda: torch.ones(2).masked_select(MASK),
        lambda: torch.ones(2).index_put_((MASK,), torch.zeros(1)),
        lambda: torch.tensor([1.0, 2.0]),
    ],
)
def test_guard_refuses_what_a_graph_cannot_hold(unsafe: Callable[[], Any]) -> None:
    """Waiting for the device, shapes that depend on values and copies from the host are refused."""
    with graph_safe(), pytest.raises(GraphUnsafeError):
        unsafe()
    with graph_safe(), unguarded():
        unsafe()


@pytest.mark.slow
@pytest.mark.parametrize("env_id", TASK_IDS)
def test_control_step_is_graph_safe(env_id: str) -> None:
    """Steps on which episodes end and worlds restart pass the guard."""
    check_graph_safety(build(env_id))


def test_unsafe_step_is_found() -> None:
    """A task that looks at a value on the host is refused."""
    env = build("factory/CartpoleSwingup-v0")
    observe = env._get_observations

    def observe_on_host() -> Any:
        float(env._qpos.sum())
        return observe()

    env._get_observations = observe_on_host
    with pytest.raises(GraphUnsafeError, match="makes the host wait"):
        check_graph_safety(env)


def build(env_id: str) -> Any:
    """Return two environments with the shortest episodes."""
    return gymnasium.make_vec(
        f"factory.envs:{env_id}", num_envs=whole_worlds(env_id, 2), max_episode_steps=2, num_threads=1, seed=0
    ).unwrapped
