"""rsl_rl trains on a batched environment, and gets rewards, ends and time limits right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode
from rsl_rl.runners import OnPolicyRunner
from scripted_env import ScriptedEnv

from factory.envs.adapters.rsl_rl import RslRlVecEnv
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.envs.tasks.quadruped_velocity import QuadrupedVelocity
from factory.envs.wrappers import NormalizeReward, RecordEpisodeStatistics

pytestmark = pytest.mark.slow


def config(num_steps: int, *, critic: str = "policy") -> dict[str, Any]:
    """Return rsl_rl's settings for a small PPO; rsl_rl changes what it is given."""
    net = lambda: {"class_name": "MLPModel", "hidden_dims": [64, 64], "activation": "elu"}  # noqa: E731
    return {
        "num_steps_per_env": num_steps,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": [critic]},
        "actor": net() | {"distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 1.0}},
        "critic": net(),
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 4,
            "num_mini_batches": 4,
            "learning_rate": 1e-3,
            "schedule": "adaptive",
            "desired_kl": 0.02,
            "gamma": 0.98,
            "entropy_coef": 0.0,
        },
    }


def test_time_limits_and_ends_reach_the_storage() -> None:
    """Stored rewards are r + gamma V(s) at a time limit, which is rsl_rl's rule, and r elsewhere; dones mark
    both.
    """
    terminated = torch.tensor([[False, step % 7 == 2] for step in range(16)])
    rewards = torch.rand(16, 2, generator=torch.Generator().manual_seed(0))
    env = RslRlVecEnv(ScriptedEnv(rewards, terminated, max_episode_steps=5, seed=0))
    algorithm = OnPolicyRunner(env, config(16)).alg
    obs, limits = env.get_observations(), []
    with torch.inference_mode():
        for _ in range(16):
            actions = algorithm.act(obs)
            before = env.episode_length_buf.clone()
            obs, reward, dones, extras = env.step(actions)
            limits.append(before + 1 >= 5)
            assert torch.equal(obs["policy"][:, 1], env.episode_length_buf.float()), (
                "not the observation of this step"
            )
            assert env.get_observations() is obs
            algorithm.process_env_step(obs, reward, dones, extras)
    stored, limit = algorithm.storage, torch.stack(limits) & ~terminated
    assert int(limit.sum()) >= 4 and int(terminated.sum()) >= 2
    expected = rewards + 0.98 * stored.values[..., 0] * limit
    torch.testing.assert_close(stored.rewards[..., 0], expected)
    assert torch.equal(stored.dones[..., 0].bool(), limit | terminated)
    assert float(stored.values.abs().max()) > 0.01


def test_training_improves_the_return() -> None:
    """A short run of `OnPolicyRunner`, on rewards that a wrapper scales, multiplies the untrained policy's
    return.
    """
    torch.manual_seed(1)
    statistics = RecordEpisodeStatistics(
        CartpoleSwingup(num_envs=64, max_episode_steps=100, seed=0), buffer_length=64
    )
    env = RslRlVecEnv(NormalizeReward(statistics, gamma=0.98))
    runner = OnPolicyRunner(env, config(32))
    policy = runner.get_inference_policy()
    with torch.inference_mode():
        for _ in range(100):
            env.step(policy(env.get_observations(), stochastic_output=True))
    untrained = float(statistics.return_queue.mean())
    runner.learn(24, init_at_random_ep_len=True)
    trained = float(statistics.return_queue.mean())
    assert trained > 2 * untrained and trained > 12, (untrained, trained)


def test_observation_groups_and_reward_terms() -> None:
    """Groups keep their names and sizes, an asymmetric critic trains, twice over, and reward terms are
    logged.
    """
    raw = QuadrupedVelocity(num_envs=4, seed=0)
    env = RslRlVecEnv(raw)
    obs = env.get_observations()
    assert {name: tuple(group.shape) for name, group in obs.items()} == {
        name: (4, *space.shape) for name, space in raw.single_observation_space.items()
    }
    assert env.num_actions == 12 and env.max_episode_length == 1000 and env.cfg is raw.cfg
    runner = OnPolicyRunner(env, config(4, critic="critic"))
    runner.learn(1), runner.learn(1)
    _, reward, dones, extras = env.step(torch.zeros(4, 12))
    assert sum(extras["log"].values()).item() == pytest.approx(reward.mean().item(), rel=1e-4, abs=1e-6)
    assert dones.dtype == torch.long and next(iter(extras["log"])) == f"/reward_terms/{raw.reward_terms[0]}"


def test_episode_lengths_are_the_environments_own() -> None:
    """Lengths that rsl_rl writes decide when episodes end."""
    env = RslRlVecEnv(CartpoleSwingup(num_envs=3, max_episode_steps=10, seed=0))
    env.episode_length_buf = torch.tensor([9, 0, 4])
    _, _, dones, extras = env.step(torch.zeros(3, 1))
    assert dones.tolist() == [1, 0, 0] and extras["time_outs"].tolist() == [True, False, False]
    assert env.episode_length_buf.tolist() == [0, 1, 5]


def test_another_autoreset_mode_is_refused() -> None:
    """rsl_rl expects finished worlds to be reset in the same step; the message says so."""
    with pytest.raises(ValueError, match=r"DISABLED.*rsl_rl expects AutoresetMode\.SAME_STEP"):
        RslRlVecEnv(CartpoleSwingup(num_envs=2, autoreset_mode=AutoresetMode.DISABLED))
