"""stable-baselines3 trains on a batched environment, and gets rewards, ends and last observations right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from scripted_env import ScriptedEnv
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from factory.envs.adapters.sb3 import Sb3VecEnv
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.envs.tasks.quadruped_velocity import QuadrupedVelocity
from factory.envs.wrappers import NormalizeReward, RecordEpisodeStatistics

pytestmark = pytest.mark.slow


def scripted() -> Any:
    """Return an environment in which the second world terminates now and then, and both have a time limit."""
    generator = torch.Generator().manual_seed(0)
    terminated = torch.tensor([[False, step % 7 == 2] for step in range(16)])
    return ScriptedEnv(torch.rand(16, 2, generator=generator), terminated, max_episode_steps=5, seed=0)


def test_a_time_limit_is_bootstrapped_with_the_value_of_the_last_observation() -> None:
    """PPO's buffer holds r + gamma V(final observation) at a time limit, and r where the episode
    terminated.
    """
    model = PPO(
        "MlpPolicy", Sb3VecEnv(scripted()), n_steps=16, batch_size=32, n_epochs=1, learning_rate=0.0, seed=0
    )
    model.learn(32)
    env, buffer = scripted(), model.rollout_buffer
    env.reset(seed=0)
    ends = np.zeros(2, dtype=int)
    actions_taken = buffer.actions.reshape(2, 16, 1).swapaxes(0, 1)  # training has put them world by world
    for actions, stored in zip(actions_taken, buffer.rewards, strict=True):
        _, reward, terminated, truncated, info = env.step(np.clip(actions, -1.0, 1.0))
        with torch.no_grad():
            value = model.policy.predict_values(info["final_obs"])[:, 0]
        expected = reward + 0.99 * value * truncated
        np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)
        ends += [int(terminated.sum()), int(truncated.sum())]
    assert ends.min() >= 2 and float(value.abs().max()) > 0.01


def test_infos_of_finished_worlds() -> None:
    """A finished world's info holds its last observation, the reason, return and length; the others' do
    not.
    """
    env, twin = Sb3VecEnv(RecordEpisodeStatistics(scripted())), scripted()
    env.reset(), twin.reset()
    returns, reasons = np.zeros(2), []
    for _ in range(12):
        obs, reward, done, infos = env.step(np.zeros((2, 1), np.float32))
        expected, raw_reward, terminated, truncated, raw = twin.step(np.zeros((2, 1), np.float32))
        np.testing.assert_array_equal(obs, expected)
        np.testing.assert_array_equal(reward, raw_reward)
        np.testing.assert_array_equal(done, terminated | truncated)
        assert reward.dtype == np.float32 and done.dtype == np.bool_
        returns += reward
        for world in range(2):
            assert ("terminal_observation" in infos[world]) == ("episode" in infos[world]) == done[world]
            if done[world]:
                np.testing.assert_array_equal(infos[world]["terminal_observation"], raw["final_obs"][world])
                assert infos[world]["TimeLimit.truncated"] == bool(truncated[world])
                assert infos[world]["episode"]["r"] == pytest.approx(returns[world])
                assert infos[world]["episode"]["l"] == raw["final_obs"][world, 1]
                reasons.append(bool(truncated[world]))
                returns[world] = 0.0
    assert set(reasons) == {True, False}


def test_training_improves_the_return() -> None:
    """A short PPO run, on rewards that a wrapper scales, multiplies the untrained policy's return."""
    statistics = RecordEpisodeStatistics(CartpoleSwingup(num_envs=64, max_episode_steps=100, seed=0))
    env = Sb3VecEnv(NormalizeReward(statistics, gamma=0.98))
    evaluation = VecMonitor(Sb3VecEnv(CartpoleSwingup(num_envs=16, max_episode_steps=100, seed=1)))
    model = PPO(
        "MlpPolicy", env, n_steps=32, batch_size=512, n_epochs=4, learning_rate=2e-3, gamma=0.98, seed=1
    )
    untrained, _ = evaluate_policy(model, evaluation, n_eval_episodes=16, deterministic=False)
    model.learn(40_000)
    trained, _ = evaluate_policy(model, evaluation, n_eval_episodes=16, deterministic=False)
    assert trained > 2.5 * untrained and trained > 12, (untrained, trained)
    logged = [episode["r"] for episode in model.ep_info_buffer or ()]
    np.testing.assert_allclose(logged, statistics.return_queue.numpy(), rtol=1e-6)


def test_seed_spaces_attributes_and_pictures() -> None:
    """Seeds decide a reset once; the policy sees its own group only; attributes and pictures are the
    environment's.
    """
    env = Sb3VecEnv(QuadrupedVelocity(num_envs=2, render_mode="rgb_array"))
    raw = QuadrupedVelocity(num_envs=2)
    env.seed(4)
    first, second = env.reset(), env.reset()
    np.testing.assert_array_equal(first, raw.reset(seed=4)[0]["policy"])
    np.testing.assert_array_equal(second, raw.reset()[0]["policy"])
    assert env.observation_space.contains(first[0]) and env.action_space.shape == (12,)
    assert env.get_attr("max_episode_steps") == [1000, 1000] and env.get_attr("step_dt_s", 0) == [
        raw.step_dt_s
    ]
    env.set_attr("max_episode_steps", 3)
    assert env.get_attr("max_episode_steps", [1]) == [3]
    assert len(env.env_method("captions")) == 2 and env.env_is_wrapped(VecMonitor) == [False, False]
    picture = env.render()
    assert picture is not None and picture.shape == (2 * 480, 640, 3)
    env.close()


def test_another_autoreset_mode_is_refused() -> None:
    """stable-baselines3 expects finished worlds to be reset in the same step; the message says so."""
    env = CartpoleSwingup(num_envs=2, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match=r"NEXT_STEP.*stable-baselines3 expects AutoresetMode\.SAME_STEP"):
        Sb3VecEnv(env)
