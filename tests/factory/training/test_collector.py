"""Returns, advantages and the collector, on data whose every number says where it belongs."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.learners.rollout import advantages, bootstrap_values
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig
from factory.training.collector import Collector, groups


def reference(
    rewards, values, next_values, terminated, truncated, *, gamma: float, gae_lambda: float
) -> Tensor:
    """Sum the one-step errors of the rest of each episode, term by term, as eq. 16 of the paper is
    written.
    """
    num_steps, num_envs = rewards.shape
    result = torch.zeros(num_steps, num_envs, dtype=torch.float64)
    for world in range(num_envs):
        for start in range(num_steps):
            total = 0.0
            for k, t in enumerate(range(start, num_steps)):
                future = 0.0 if terminated[t, world] else gamma * float(next_values[t, world])
                error = float(rewards[t, world]) + future - float(values[t, world])
                total += (gamma * gae_lambda) ** k * error
                if terminated[t, world] or truncated[t, world]:
                    break
            result[start, world] = total
    return result


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    num_steps=st.integers(1, 12),
    num_envs=st.integers(1, 4),
    gamma=st.floats(0.0, 1.0),
    gae_lambda=st.floats(0.0, 1.0),
    end_share=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**20),
)
def test_advantages_equal_the_sum_written_out(
    num_steps: int, num_envs: int, gamma: float, gae_lambda: float, end_share: float, seed: int
) -> None:
    """The backward recursion equals the definition, wherever episodes terminate or are truncated."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(num_steps, num_envs, generator=generator)  # noqa: E731
    flag = lambda: torch.rand(num_steps, num_envs, generator=generator) < end_share / 2  # noqa: E731
    inputs = draw(), draw(), draw()
    terminated = flag()
    truncated = flag() & ~terminated
    live = torch.ones_like(terminated)
    fast = advantages(*inputs, terminated, truncated, live, gamma=gamma, gae_lambda=gae_lambda)
    slow = reference(*inputs, terminated, truncated, gamma=gamma, gae_lambda=gae_lambda)
    torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=1e-4)


class CountingEnv:
    """Worlds whose clocks never stop: observation and reward of a step are `1000 * world + clock`.

    Even worlds are truncated, odd worlds terminate, every `length` steps. The first observation of the next
    episode is the negative of the clock's, so that a value taken from the wrong side of a reset shows.
    """

    device = torch.device("cpu")
    reward_terms = ("first", "second")
    outcome_names = ("success", "terminated", "timeout", "diverged")
    episode_metrics = ()

    def __init__(self, *, num_envs: int, length: int, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.num_envs, self.length, self.mode = num_envs, length, mode
        self.single_action_space = SimpleNamespace(shape=(1,))
        self.unwrapped = self
        self.clock = 0
        self.age = 0
        self.actions: list[Tensor] = []

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        return self._obs(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        self.actions.append(actions)
        self.clock += 1
        live = not (self.mode is AutoresetMode.NEXT_STEP and self.age == self.length)
        self.age = self.age + 1 if live else 0
        ended = torch.full((self.num_envs,), live and self.age == self.length)
        odd = torch.arange(self.num_envs) % 2 == 1
        obs = self._obs() if live else -self._obs()
        reward = self._obs()[:, 0] if live else torch.zeros(self.num_envs)
        info: dict[str, Any] = {
            "live": torch.full((self.num_envs,), live),
            "nonfinite": torch.zeros(self.num_envs, dtype=torch.bool),
            "success": odd,
            "outcome": torch.where(odd, 0, 2),
            "reward_terms": torch.tensor([1.0, 2.0]).expand(self.num_envs, 2),
        }
        if self.mode is AutoresetMode.SAME_STEP:
            info |= {"final_obs": obs, "_final_obs": ended}
            if ended.any():
                obs, self.age = -obs, 0
        return obs, reward, ended & odd, ended & ~odd, info

    def _obs(self) -> Tensor:
        return (1000.0 * torch.arange(self.num_envs) + self.clock)[:, None]


class EchoPolicy:
    """A policy whose action, log-probability and value all repeat the observation; its state counts steps
    from 5.
    """

    num_multiply_adds = 1

    def initial_state(self, num_envs: int) -> Tensor:
        return torch.full((num_envs, 1), 5.0)

    def act(self, obs: dict[str, Tensor], state: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        seen = obs["policy"]
        return seen + 0.25, {"log_prob": -seen[:, 0], "memory": state[:, 0].clone()}, state + 1

    def value(self, obs: dict[str, Tensor]) -> Tensor:
        return obs["critic"][..., 0]


def collector_of(env: Any, policy: Any, num_steps: int) -> Collector:
    return Collector(env=env, policy=policy, num_steps=num_steps, phase=lambda name: contextlib.nullcontext())


def test_every_transition_lands_at_its_place() -> None:
    """Row t, column n of every tensor belongs to step t of world n, also in the second rollout."""
    env = CountingEnv(num_envs=3, length=100)
    collector = collector_of(env, EchoPolicy(), num_steps=4)
    for first in (0, 4):
        rollout, _ = collector.collect()
        before = 1000.0 * torch.arange(3) + torch.arange(first, first + 4)[:, None]
        assert torch.equal(rollout.obs["policy"][..., 0], before)
        assert torch.equal(rollout.obs["critic"][..., 0], before)
        assert torch.equal(rollout.actions[..., 0], before + 0.25)
        assert torch.equal(torch.stack(env.actions[first:]), rollout.actions)
        assert torch.equal(rollout.extras["log_prob"], -before)
        assert torch.equal(rollout.rewards, before + 1)
        assert torch.equal(rollout.final_obs["policy"][..., 0], before + 1)
        values, next_values = bootstrap_values(rollout, EchoPolicy().value)
        assert torch.equal(values, before)
        assert torch.equal(next_values, before + 1)
        assert rollout.live.all()
        assert not (rollout.terminated | rollout.truncated).any()


def test_next_values_look_at_the_final_observation_never_past_the_reset() -> None:
    """Where an episode ends in the same step, V is taken of `final_obs`; the next row starts after the
    reset.
    """
    rollout, _ = collector_of(CountingEnv(num_envs=2, length=3), EchoPolicy(), num_steps=6).collect()
    assert torch.equal(rollout.truncated[:, 0], torch.tensor([False, False, True] * 2))
    assert torch.equal(rollout.terminated[:, 1], torch.tensor([False, False, True] * 2))
    assert not rollout.truncated[:, 1].any()
    assert not rollout.terminated[:, 0].any()
    values, next_values = bootstrap_values(rollout, EchoPolicy().value)
    assert next_values[2].tolist() == [3.0, 1003.0]
    assert values[3].tolist() == [-3.0, -1003.0]
    assert rollout.final_obs["critic"][2, :, 0].tolist() == [3.0, 1003.0]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_state_of_the_policy_restarts_with_every_episode(mode: AutoresetMode) -> None:
    """The memory of one episode never reaches the next, and the rollout says where it restarted."""
    env = CountingEnv(num_envs=2, length=3, mode=mode)
    collector = collector_of(env, EchoPolicy(), num_steps=5)
    period = [5.0, 6.0, 7.0] if mode is AutoresetMode.SAME_STEP else [5.0, 6.0, 7.0, 5.0]
    seen = []
    for _ in range(3):
        rollout, _ = collector.collect()
        memory = rollout.extras["memory"]
        seen += memory[:, 0].tolist()
        assert torch.equal(memory[0], rollout.initial_state[:, 0])
        # A row is a start exactly where the memory is the initial one again, the first row aside.
        assert torch.equal(rollout.episode_starts[1:], memory[1:] == 5.0)
        assert not rollout.episode_starts[0].any()
    assert seen == (period * 15)[:15]


def test_time_limit_is_no_loss_and_a_terminal_state_is() -> None:
    """With reward 1 for ever and the true V = 1 / (1 - gamma), a time limit costs nothing; dying costs V
    - 1.
    """
    gamma, true_value = 0.75, 4.0

    class OneEnv(CountingEnv):
        def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
            obs, reward, *rest = super().step(actions)
            return obs, torch.ones_like(reward), *rest

    class KnowingPolicy(EchoPolicy):
        """Knows V of states before a reset, and is far off for those after (whose observations are
        negative).
        """

        def value(self, obs: dict[str, Tensor]) -> Tensor:
            return torch.where(obs["critic"][..., 0] < 0, 1e6, true_value)

    rollout, _ = collector_of(OneEnv(num_envs=2, length=4), KnowingPolicy(), num_steps=8).collect()
    found = advantages(
        rollout.rewards,
        *bootstrap_values(rollout, KnowingPolicy().value),
        rollout.terminated,
        rollout.truncated,
        rollout.live,
        gamma=gamma,
        gae_lambda=0.95,
    )
    # Rows 0 and 4 start from a state whose value is far off; nothing of it may reach the rows before.
    assert torch.equal(found[[1, 2, 3, 5, 6, 7], 0], torch.zeros(6))
    assert found[[3, 7], 1].tolist() == [1.0 - true_value] * 2


def test_episode_sums_cover_what_ended_in_the_rollout() -> None:
    """Return, length and success are summed over ended episodes; an open one is carried to the next
    rollout.
    """
    collector = collector_of(CountingEnv(num_envs=2, length=3), EchoPolicy(), num_steps=4)
    _, stats = collector.collect()
    assert (stats.sums["episodes"], stats.sums["length_sum"], stats.sums["outcome/success"]) == (
        2.0,
        6.0,
        1.0,
    )
    assert stats.sums["return_sum"] == (1 + 2 + 3) + (1001 + 1002 + 1003)
    assert stats.sums["live_steps"] == 8
    assert stats.reward_terms.tolist() == [1.0, 2.0]
    _, stats = collector.collect()
    assert stats.sums["return_sum"] == (4 + 5 + 6) + (1004 + 1005 + 1006)


def test_steps_that_reset_are_not_live_and_no_tokens() -> None:
    """In NEXT_STEP mode the step that resets executes no action: not live, no reward, no token, no length."""
    env = CountingEnv(num_envs=2, length=3, mode=AutoresetMode.NEXT_STEP)
    rollout, stats = collector_of(env, EchoPolicy(), num_steps=8).collect()
    expected = torch.tensor([True, True, True, False] * 2)
    assert torch.equal(rollout.live, expected[:, None].expand(8, 2))
    assert stats.sums["live_steps"] == 2 * 6
    assert stats.sums["length_sum"] == 2 * 2 * 3
    assert stats.reward_terms.tolist() == [1.0, 2.0]
    assert (rollout.rewards[3] == 0).all()
    assert rollout.final_obs["policy"][2, :, 0].tolist() == [3.0, 1003.0]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_real_environment_counts_only_executed_actions(mode: AutoresetMode) -> None:
    """On a real task live steps are all steps in SAME_STEP mode, and fewer by one per episode in
    NEXT_STEP.
    """
    env = CartpoleSwingup(num_envs=3, max_episode_steps=4, autoreset_mode=mode, seed=0, num_threads=1)
    size = env.single_observation_space.shape[0]
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[8], critic_hidden=[8]),
        obs_size=size,
        critic_obs_size=size,
        action_space=Box(-1.0, 1.0, (1,)),
        control_hz=50.0,
        generator=torch.Generator().manual_seed(0),
    )
    rollout, stats = collector_of(env, policy, num_steps=10).collect()
    env.close()
    resets = 0 if mode is AutoresetMode.SAME_STEP else 2
    assert stats.sums["live_steps"] == 3 * (10 - resets)
    assert int((~rollout.live).sum()) == 3 * resets
    assert stats.sums["length_sum"] == 4 * stats.sums["episodes"]


def test_choices_are_kept_as_numbers_in_a_column() -> None:
    """Indices (num_envs,) go to the environment as they are and into the rollout as (T, N, 1)."""

    class Choosing(EchoPolicy):
        def act(self, obs: dict[str, Tensor], state: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
            return torch.arange(len(obs["policy"])), {}, state

    env = CountingEnv(num_envs=3, length=100)
    env.single_action_space = Discrete(3)
    rollout, _ = collector_of(env, Choosing(), num_steps=2).collect()
    assert env.actions[0].dtype == torch.int64
    assert rollout.actions[..., 0].tolist() == [[0.0, 1.0, 2.0]] * 2


def test_collection_continues_from_a_saved_state() -> None:
    """A collector that loads another's state repeats its next rollout bit for bit."""

    def build() -> tuple[CartpoleSwingup, MlpPolicy, Collector]:
        torch.manual_seed(0)
        env = CartpoleSwingup(num_envs=3, max_episode_steps=6, seed=0, num_threads=1)
        policy = MlpPolicy(
            MlpPolicyConfig(actor_hidden=[8], critic_hidden=[8]),
            obs_size=5,
            critic_obs_size=5,
            action_space=Box(-1.0, 1.0, (1,)),
            control_hz=50.0,
            generator=torch.Generator().manual_seed(0),
        )
        return env, policy, collector_of(env, policy, num_steps=4)

    env, policy, collector = build()
    collector.collect()
    saved = env.state_dict(), policy.generator.get_state(), collector.state_dict()
    expected, stats = collector.collect()
    other_env, other_policy, other = build()
    other_env.load_state_dict(saved[0])
    other_policy.generator.set_state(saved[1])
    other.load_state_dict(saved[2])
    found, other_stats = other.collect()
    for name in ("actions", "rewards", "truncated"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.extras["log_prob"], expected.extras["log_prob"])
    assert torch.equal(found.final_obs["policy"], expected.final_obs["policy"])
    assert other_stats.sums["return_sum"] == stats.sums["return_sum"]


def test_critic_sees_the_policy_group_where_it_has_none() -> None:
    """One observation group serves actor and critic; two are kept apart."""
    tensor, other = torch.zeros(2, 3), torch.ones(2, 4)
    assert groups(tensor)["critic"] is tensor
    assert groups({"policy": tensor})["critic"] is tensor
    assert groups({"policy": tensor, "critic": other})["critic"] is other
