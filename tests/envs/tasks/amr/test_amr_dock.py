"""The robot sees its dock, docks to the centimetre, and its task is symmetric."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from factory.envs.core.check import check_vector_env
from factory.envs.tasks.amr import dock_table, docking
from factory.envs.tasks.amr.course import Course
from factory.envs.tasks.amr.dock import AmrDock
from factory.envs.tasks.amr.dock_config import SET_NAMES, AmrDockConfig
from factory.envs.tasks.amr.dock_controllers import AlongPath
from factory.envs.tasks.amr.dock_table import DOCK, SETS
from factory.envs.tasks.amr.docking import dock_error, dock_features, seen_error
from factory.envs.tasks.amr.features import ACTION_MIRROR
from factory.envs.tasks.amr.table import draw_table

STILL = torch.tensor([-0.5, 0.0]).expand(8, 2)


@pytest.fixture(autouse=True)
def few_halls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set has eight halls: those are enough for tests, and soon drawn."""
    for name in SETS:
        monkeypatch.setitem(SETS, name, replace(SETS[name], halls=8))
    dock_table.dock_course.cache_clear()


def make(num_envs: int = 8, **kwargs: Any) -> AmrDock:
    """Return worlds with the test episodes."""
    return AmrDock(**{"num_envs": num_envs, "episodes": "test", "num_threads": 1, "seed": 0} | kwargs)


def place(env: AmrDock, *, ahead_m: float = 0.0, aside_m: float = 0.0, turn_deg: float = 0.0) -> None:
    """Put every robot near its dock: so far before it, to the side, and turned."""
    pose = torch.tensor([DOCK[0] + ahead_m, DOCK[1] + aside_m, DOCK[2] + math.radians(turn_deg)])
    rows = pose.double().expand(env.num_envs, 3)
    env.set_state(rows, torch.zeros_like(rows))


def test_training_starts_a_share_of_the_robots_on_the_way_into_the_dock() -> None:
    """They stand free near the dock, and the path left begins there; the other sets are as listed."""
    env = make(64, episodes="train", curriculum_share=1.0)
    env.reset(seed=0)
    near = env.error.distance < 2.4
    assert near.float().mean() > 0.7
    assert (env.error.distance[near] > 0.02).all()
    remaining = env.course.path_length(env.episode, env.position[:, None])[:, 0]
    torch.testing.assert_close(env._remaining, remaining)
    _, _, ended, _, info = env.step(STILL[:1].expand(64, 2))
    assert not (ended & ~info["success"]).any()
    # A train set without the curriculum, and a fixed set with it.
    for others in ({"episodes": "train", "curriculum_share": 0.0}, {"curriculum_share": 1.0}):
        env = make(64, **others)
        env.reset(seed=0)
        assert (env.error.distance > 2.9).all()


def test_conforms() -> None:
    """Gymnasium's contract holds in all autoreset modes."""
    check_vector_env(make)


def test_sets_are_named_and_apart() -> None:
    """The names that the configuration takes are those of the recipes, whose halls all differ."""
    assert set(SET_NAMES) == set(SETS)
    assert len({recipe.stream for recipe in SETS.values()}) == len(SETS)
    assert AmrDockConfig().eval_kwargs()["episodes"] == "test"
    with pytest.raises(ValueError, match=r"^task\.episodes=maze: choose one of train, validation, test"):
        AmrDockConfig(episodes="maze")
    with pytest.raises(ValueError, match=r"^task\.sensor\.noise_m=-1: must be in \[0, 1\]"):
        AmrDockConfig(sensor={"noise_m": -1})  # type: ignore[arg-type]


def test_every_start_has_a_way_into_the_dock() -> None:
    """All paths end at the dock, whose pose touches nothing, and begin at least 3 m away."""
    table = draw_table(SETS["test"])
    assert table.num_episodes == 32
    assert (table.goal[:, 1:] == [350, 3050]).all()
    assert ((table.start[:, 4] >= 3000) & (table.start[:, 4] < 20_000)).all()
    env = make()
    place(env)
    assert (env._room().clearance > 0.05).all()


def test_pose_of_the_dock_in_the_robots_frame() -> None:
    """A dock ahead to the left, turned by a right angle, is seen there; features tell it again."""
    error = dock_error(torch.tensor([[DOCK[0] + 2.0, DOCK[1] + 1.0, math.pi / 2.0 + math.pi]]))
    expected = torch.tensor([[1.0, -2.0, -math.pi / 2.0]])
    torch.testing.assert_close(torch.stack(error, -1), expected, atol=1e-5, rtol=0.0)
    again = seen_error(dock_features(error))
    torch.testing.assert_close(torch.stack(again, -1), expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    ("where", "docks"),
    [
        ({"ahead_m": 0.012, "aside_m": 0.01, "turn_deg": 1.5}, True),
        ({"ahead_m": 0.03}, False),
        ({"aside_m": 0.03}, False),
        ({"turn_deg": 3.0}, False),
    ],
)
def test_docked_is_close_aligned_and_still(where: dict[str, float], docks: bool) -> None:
    """2 cm and 2 degrees count, and no more; nor does a robot that drives through the place."""
    env = make()
    env.reset(seed=0)
    place(env, **where)
    _, _, terminated, _, info = env.step(STILL)
    assert bool(terminated.all()) == bool(terminated.any()) == docks
    assert bool((info["outcome"] == 0).all()) == docks
    assert info["reward_terms"][:, 2].tolist() == [env.cfg.rewards.docked * docks] * 8
    place(env, **where)
    env.twist[:, 0] = 0.3
    assert not env.step(torch.tensor([0.1, 0.0]).expand(8, 2))[2].any()


def test_precision_needs_place_and_heading() -> None:
    """It is 2 in the dock, and falls with either error."""
    pose = torch.tensor([list(DOCK), [DOCK[0], DOCK[1] + 0.05, DOCK[2]], [DOCK[0], DOCK[1], DOCK[2] + 0.3]])
    exact, aside, turned = docking.precision(dock_error(pose)).tolist()
    assert exact == pytest.approx(2.0)
    assert aside < 1.2 and turned < 1.2
    assert float(docking.precision(dock_error(torch.tensor([[3.0, 3.0, 0.0]])))) < 1e-6


def test_guides_end_an_episode() -> None:
    """A robot that is pushed to the side between the guides has collided."""
    env = make()
    env.reset(seed=0)
    place(env, aside_m=0.2)
    _, _, terminated, _, info = env.step(STILL)
    assert terminated.all() and (info["outcome"] == 1).all()


def test_sensor_of_the_dock_errs_more_from_afar() -> None:
    """The policy sees the dock with noise that grows with the distance; the critic sees it exactly."""
    env = make(64)
    env.reset(seed=0)

    def deviation() -> Tensor:
        columns = slice(64, 71)
        seen = [seen_error(env._get_observations()["policy"][:, columns]).x for _ in range(20)]
        return torch.stack(seen).std(0).mean()

    far = deviation()
    place(env, ahead_m=0.02)
    near = deviation()
    assert 0.003 < near < 0.006 and far > 0.03
    exact = seen_error(env._get_observations()["critic"][:, 64:71])
    torch.testing.assert_close(exact.x, torch.full((64,), 0.02), atol=1e-4, rtol=0.0)


def test_planner_docks() -> None:
    """Along the map and the axis, most robots dock; the film shows dock, guides, lidar and robot."""
    env = make()
    obs, _ = env.reset(seed=0)
    baseline = AlongPath(env)
    state = baseline.initial_state(8)
    ends = torch.zeros(8, dtype=torch.bool)
    docked = torch.zeros(8, dtype=torch.bool)
    for _ in range(400):
        action, state = baseline.act_deterministic(obs, state)
        obs, _, terminated, truncated, info = env.step(action)
        docked |= terminated & info["success"] & ~ends
        ends |= terminated | truncated
        state[terminated | truncated] = 0.0
        if ends.all():
            break
    assert docked.sum() >= 6
    scene = env.scenes()[0]
    kinds = [type(shape).__name__ for shape in scene.shapes]
    assert kinds.count("Rays") == 1 and kinds.count("Polygon") == 2 + 5
    assert "cm" in scene.caption


def test_mirrored_hall_gives_mirrored_motion() -> None:
    """With mirrored actions in a mirrored hall, observations and rewards are mirrored."""
    course = Course(draw_table(SETS["test"]), torch.device("cpu"))
    size = course.size_m
    course._boxes[..., 1] = size - course._boxes[..., 1]
    course._boxes[..., 4] *= -1.0
    course._poses[:, 1] = size - course._poses[:, 1]
    course._poses[:, 2] *= -1.0
    course._lengths = course._lengths.flip(1)
    exact = dict.fromkeys(("noise_m", "noise_per_m", "noise_rad", "bias_m", "bias_rad"), 0.0)
    plain = make(sensor=exact)
    other = make(sensor=exact)
    other.course = course
    mirror = docking.dock_mirror()
    for env in (plain, other):
        env.reset(seed=3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        action = 2.0 * torch.rand(8, 2, generator=generator) - 1.0
        ours, reward, *_ = plain.step(action)
        theirs, mirrored_reward, *_ = other.step(ACTION_MIRROR(action))
        # Noise is drawn by beam, so the exact scan of the critic stands for both.
        first, second = (
            torch.cat([obs["critic"][:, :64], obs["policy"][:, 64:]], -1) for obs in (ours, theirs)
        )
        torch.testing.assert_close(mirror(first), second, atol=2e-3, rtol=0.0)
        torch.testing.assert_close(reward, mirrored_reward, atol=0.02, rtol=0.0)
