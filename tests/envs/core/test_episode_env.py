"""Tasks that torch alone simulates, with one agent a world and with several, and their choice of engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from factory import registry
from factory.config import TrainConfig
from factory.envs.core.check import check_vector_env
from factory.envs.core.graph_safety import check_graph_safety
from factory.envs.physics import PhysicsConfig
from factory.envs.rendering import RenderingUnavailableError
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig
from tests.helpers.toy_tasks import Crowd, CrowdConfig, Point, PointConfig

TOYS = (Point, Crowd)


@pytest.fixture
def registered() -> Iterator[None]:
    """Both tasks are registered during the test."""
    for config in (PointConfig, CrowdConfig):
        registry.register_task(config)
    yield
    for config in (PointConfig, CrowdConfig):
        del registry.TASKS[config.name], gymnasium.registry[config.id]


@pytest.mark.filterwarnings("ignore:.*Box observation space.*infinity.*")
@pytest.mark.parametrize("task", TOYS)
def test_contract_holds_without_an_engine(task: type[Point]) -> None:
    """Tasks without MuJoCo pass the checks of all tasks."""
    check_vector_env(task)
    check_graph_safety(task(num_envs=4, max_episode_steps=2))
    check_env(task.single(), skip_render_check=True)


@pytest.mark.parametrize("task", TOYS)
def test_later_steps_repeat_after_a_restore(task: type[Point]) -> None:
    """Another environment goes on from `state_dict` bit for bit, over the ends of episodes."""
    actions = torch.rand(30, 8, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    first = task(num_envs=8, seed=0, max_episode_steps=7)
    for action in actions[:10]:
        first.step(action)
    second = task(num_envs=8, seed=1, max_episode_steps=7)
    second.load_state_dict(first.state_dict())
    for action in actions[10:]:
        for one, other in zip(first.step(action)[:4], second.step(action)[:4], strict=True):
            assert torch.equal(one, other)


def test_an_agent_starts_anew_while_the_others_of_its_world_go_on() -> None:
    """Resetting one row leaves its neighbours' state and clocks alone, but changes their view of it."""
    env = Crowd(num_envs=6, agents_per_world=3, seed=0, autoreset_mode="Disabled")
    obs, _ = env.reset()
    for _ in range(4):
        obs, *_ = env.step(torch.zeros(6, 2))
    after, _ = env.reset(options={"reset_mask": torch.arange(6) == 1})
    assert env.num_worlds == 2
    assert env.episode_steps.tolist() == [4, 0, 4, 4, 4, 4]
    assert torch.equal(after[[0, 2, 3, 4, 5], :2], obs[[0, 2, 3, 4, 5], :2])
    assert not torch.equal(after[0, 2:], obs[0, 2:]) and torch.equal(after[3:], obs[3:])


def test_rows_are_whole_worlds(registered: None) -> None:
    """A number of rows that splits a world is refused by the environment and by the job."""
    message = r"num_envs=5: must be a multiple of task\.agents_per_world=2"
    with pytest.raises(ValueError, match=message):
        Crowd(num_envs=5)
    with pytest.raises(ValueError, match=message):
        TrainConfig(task=CrowdConfig(), num_envs=5)
    assert [CrowdConfig().whole_worlds(rows) for rows in (1, 2, 5)] == [2, 2, 4]
    assert CartpoleSwingupConfig().whole_worlds(5) == 5


def test_a_task_chooses_its_engine(registered: None) -> None:
    """`physics=auto` is what the task runs on; another engine is refused with the remedy."""
    assert TrainConfig(task=PointConfig()).physics.name == "none"
    assert TrainConfig(task=CartpoleSwingupConfig()).physics.name == "mujoco"
    assert Point(num_envs=1).physics_name == "none"
    refused: list[tuple[Any, str, str]] = [
        (PointConfig, "mujoco", "physics=mujoco: torch alone simulates this task; leave it out"),
        (CartpoleSwingupConfig, "none", "physics=none: this task runs with physics=mujoco or physics=warp"),
    ]
    for config, engine, message in refused:
        with pytest.raises(ValueError, match=message):
            TrainConfig(task=config(), physics=PhysicsConfig(name=engine))
    for task, engine in ((Point, "warp"), (CartpoleSwingup, "none")):
        with pytest.raises(ValueError, match=f"physics={engine}: "):
            task(num_envs=1, physics=engine)
    with pytest.raises(ValueError, match=r"physics\.num_threads=2: only physics=mujoco has it"):
        TrainConfig(task=PointConfig(), physics=PhysicsConfig(num_threads=2))


def test_worlds_are_seen_from_above() -> None:
    """A picture shows a world with all its agents; a task without pictures says so."""
    env = Crowd(num_envs=4, render_mode="rgb_array", seed=0)
    frames = env.render()
    assert frames is not None and len(frames) == env.num_worlds == len(env.snapshot())
    assert all(frame.min() == 0 for frame in frames)
    for show in (Point(num_envs=1).snapshot, Point(num_envs=1, render_mode="rgb_array").render):
        with pytest.raises(RenderingUnavailableError, match="Point has no pictures"):
            show()
