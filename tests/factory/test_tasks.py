"""The list of tasks says what is true of the environments."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest

from factory import cli
from factory.registry import TASKS
from factory.training.build import make_env

DECLARED = [name for name, schema in TASKS.items() if schema.facts]


def test_every_task_of_the_package_declares_its_facts() -> None:
    """All tasks that are complete by themselves are listed without building them."""
    complete = [name for name, schema in TASKS.items() if not schema.example]
    assert [name for name in complete if TASKS[name].__module__.startswith("factory.")] == DECLARED


@pytest.mark.parametrize("name", DECLARED)
def test_declared_facts_are_those_of_the_environment(name: str) -> None:
    """Sizes of observations and actions, and the control rate."""
    cfg, _ = cli.compose_config([f"task={name}"])
    facts = cfg.task.facts
    assert facts is not None
    with contextlib.closing(make_env(cfg, num_envs=cfg.task.agents_per_world)) as env:
        observations: Any = env.single_observation_space
        groups = getattr(observations, "spaces", {"policy": observations})
        assert facts.observations == {key: math.prod(group.shape) for key, group in groups.items()}
        assert facts.actions == str(math.prod(env.single_action_space.shape or ()))
        assert facts.control_hz == pytest.approx(1.0 / env.step_dt_s)
