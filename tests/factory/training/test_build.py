"""Faults of a task's class are found when its environments are built or first stepped, with their names."""

from __future__ import annotations

import pytest

from factory import options
from factory.benchmark.harness import Harness
from factory.cli import single_job
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.training.build import make_env

options.register()
JOB = ("task=cartpole_swingup", "num_envs=4", "learner.num_steps=4", "learner.num_minibatches=2")


def test_a_camera_that_cannot_draw_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the task and the remedy."""
    monkeypatch.setattr(CartpoleSwingup, "camera", "top")
    with pytest.raises(
        ValueError, match=r"task=cartpole_swingup: its camera is 'top'; write camera = Camera"
    ):
        make_env(single_job(JOB), num_envs=1)


def test_a_reward_term_without_a_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says how many names and how many columns there are."""
    names = CartpoleSwingup.reward_terms
    monkeypatch.setattr(CartpoleSwingup, "reward_terms", names[:-1])
    harness = Harness.open(single_job(JOB))
    with pytest.raises(ValueError, match=rf"names {len(names) - 1} terms, but .* has {len(names)} columns"):
        harness.collector.collect()
