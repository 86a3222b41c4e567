"""The control step of every task is made of what a CUDA graph can hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
import torch
from graph_safety import GraphUnsafeError, graph_safe, unguarded

import factory.envs  # noqa: F401  registers the tasks
from factory.registry import TASKS

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


@pytest.mark.parametrize("env_id", TASK_IDS)
def test_control_step_is_graph_safe(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on which episodes end and worlds restart pass the guard, the CPU's engine and its short cuts left
    out.
    """
    env: Any = gymnasium.make_vec(
        f"factory.envs:{env_id}", num_envs=2, max_episode_steps=2, num_threads=1, seed=0
    ).unwrapped
    env.reset(seed=0)
    action = torch.from_numpy(env.action_space.sample())
    env.step(action)  # as before a capture: fields are fetched at the first step
    monkeypatch.setattr(env, "_any_or_gpu", lambda mask: True)
    monkeypatch.setattr(env, "_isolated_rng", contextlib.nullcontext)
    for name in ("step", "reset", "forward"):
        monkeypatch.setattr(env.physics, name, _without_guard(getattr(env.physics, name)))
    with graph_safe():
        for _ in range(3):
            env.step(action)


def _without_guard(call: Callable[..., None]) -> Callable[..., None]:
    def unguarded_call(*args: Any) -> None:
        with unguarded():
            call(*args)

    return unguarded_call
