"""Wrappers equal Gymnasium's own where both can do the same, and `ToNumpy` carries those."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium
import gymnasium.wrappers.vector as stock
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from scripted_env import Script, ScriptedEnv

from factory.envs import wrappers as ours

QUADRUPED = "factory/QuadrupedVelocity-v0"


def make(env_id: str, **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"factory.envs:{env_id}", num_threads=1, **kwargs).unwrapped


def both(mode: AutoresetMode, mine: Any, theirs: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what `mine` (over torch) and Gymnasium's wrapper (over numpy) return, step by step."""
    generator = torch.Generator().manual_seed(0)
    random = lambda: torch.rand(40, 3, generator=generator)  # noqa: E731
    script = Script(mode, 7, 4 * random() - 1, random() < 0.1, 3 * random()[..., None] - 1.5, random() < 0)
    first, second = ours.ToNumpy(mine(script.build())), theirs(ours.ToNumpy(script.build()))
    yield first, second
    yield first.reset(seed=0), second.reset(seed=0)
    for actions in script.actions.numpy():
        yield first.step(actions), second.step(actions)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_episode_statistics_equal_gymnasiums(mode: AutoresetMode) -> None:
    """Statistics, masks and queues equal those of Gymnasium's `RecordEpisodeStatistics`."""
    results = both(mode, ours.RecordEpisodeStatistics, stock.RecordEpisodeStatistics)
    mine, theirs = next(results)
    next(results)
    episodes = 0
    for (*_, got), (*_, expected) in results:
        assert ("episode" in got) == ("episode" in expected)
        if "episode" in expected:
            episodes += expected["_episode"].sum()
            np.testing.assert_array_equal(got["_episode"], expected["_episode"])
            np.testing.assert_allclose(got["episode"]["r"], expected["episode"]["r"], rtol=1e-6)
            np.testing.assert_array_equal(got["episode"]["l"], expected["episode"]["l"])
    assert episodes > 10
    np.testing.assert_allclose(mine.env.return_queue, theirs.return_queue, rtol=1e-6)
    np.testing.assert_array_equal(mine.env.length_queue, theirs.length_queue)


def test_scaled_rewards_equal_gymnasiums() -> None:
    """In SAME_STEP mode rewards equal those of Gymnasium's `NormalizeReward`."""
    results = both(AutoresetMode.SAME_STEP, ours.NormalizeReward, stock.NormalizeReward)
    for (_, got, *_), (_, expected, *_) in itertools.islice(results, 2, None):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_standardised_observations_equal_gymnasiums() -> None:
    """In NEXT_STEP mode, the one Gymnasium's `NormalizeObservation` knows, observations equal its."""
    results = both(AutoresetMode.NEXT_STEP, ours.NormalizeObservation, stock.NormalizeObservation)
    for (got, *_), (expected, *_) in itertools.islice(results, 1, None):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["ClipAction", "RescaleAction"])
def test_actions_equal_gymnasiums(name: str) -> None:
    """The environment gets the actions it gets from Gymnasium's `ClipAction` and `RescaleAction`."""
    bounds = () if name == "ClipAction" else (-1.5, 3.0)
    wrap = lambda module: lambda env: getattr(module, name)(env, *bounds)  # noqa: E731
    results = both(AutoresetMode.NEXT_STEP, wrap(ours), wrap(stock))
    mine, theirs = next(results)
    assert mine.action_space == theirs.action_space and mine.single_action_space == theirs.single_action_space
    for (got, *_), (expected, *_) in results:
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_numpy_values_are_the_torch_ones(mode: AutoresetMode) -> None:
    """`ToNumpy` returns what the environment does, with Gymnasium's types: float64 rewards, numpy bools."""
    build = lambda: make(QUADRUPED, num_envs=3, max_episode_steps=4, autoreset_mode=mode)  # noqa: E731
    torch_env, numpy_env = build(), ours.ToNumpy(build())
    torch_env.reset(seed=0), numpy_env.reset(seed=0)
    for _ in range(6):
        action = numpy_env.action_space.sample()
        expected, got = torch_env.step(action), numpy_env.step(action)
        for name, group in expected[0].items():
            np.testing.assert_array_equal(got[0][name], group.numpy())
        assert numpy_env.observation_space.contains(got[0])
        assert got[1].dtype == np.float64 and got[2].dtype == got[3].dtype == np.bool_
        for mine, theirs in zip(got[1:4], expected[1:4], strict=True):
            np.testing.assert_array_equal(mine, theirs.numpy())
        assert isinstance(got[4]["success"], np.ndarray)
        np.testing.assert_array_equal(
            got[4]["diagnostics"]["fall"], expected[4]["diagnostics"]["fall"].numpy()
        )


def test_final_observations_are_gymnasiums_objects() -> None:
    """`final_obs` is there when a world finished only: an observation for it, None for the others."""
    never = torch.zeros(2, 2, dtype=torch.bool)
    ends = torch.tensor([[False, True], [False, False]])
    for critic in (False, True):
        env = ours.ToNumpy(ScriptedEnv(torch.zeros(2, 2), never | ends, critic=critic, seed=0))
        env.reset(seed=0)
        *_, info = env.step(np.zeros((2, 1)))
        final = info["final_obs"]
        assert final.dtype == object and final[0] is None and info["_final_obs"].tolist() == [False, True]
        assert (final[1]["policy"] if critic else final[1])[1:3].tolist() == [1.0, 1.0]
        *_, info = env.step(np.zeros((2, 1)))
        assert "final_obs" not in info and "_final_obs" not in info


def test_gymnasiums_wrappers_work_on_numpy() -> None:
    """A stack of Gymnasium's own vector wrappers runs on top of `ToNumpy`, in the mode all of them know."""
    env = ours.ToNumpy(
        make(QUADRUPED, num_envs=3, max_episode_steps=5, autoreset_mode=AutoresetMode.NEXT_STEP)
    )
    env = stock.RecordEpisodeStatistics(stock.FlattenObservation(env))
    env = stock.NormalizeReward(stock.NormalizeObservation(stock.ClipAction(env)))
    env = stock.DictInfoToList(stock.ClipReward(env, -1.0, 1.0))
    env.reset(seed=0)
    lengths = []
    for _ in range(13):
        obs, reward, _, _, infos = env.step(np.zeros((3, 12), np.float32))
        assert env.observation_space.contains(obs) and np.isfinite(reward).all()
        lengths += [int(info["episode"]["l"]) for info in infos if "episode" in info]
    assert lengths == [5] * 6
