"""Wrappers do their sums right in every autoreset mode: each is held against a reference in plain Python.

The reference follows one world at a time through what the bare environment returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_env import Script, ScriptedEnv

from factory.envs import wrappers as ours

CARTPOLE, QUADRUPED = "factory/CartpoleSwingup-v0", "factory/QuadrupedVelocity-v0"


def make(env_id: str, **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"factory.envs:{env_id}", num_threads=1, **kwargs).unwrapped


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    steps, num_envs = 14, draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    random = lambda: torch.rand(steps, num_envs, generator=generator)  # noqa: E731
    return Script(
        mode=draw(st.sampled_from(list(AutoresetMode))),
        limit=draw(st.integers(1, 6)),
        rewards=4 * random() - 1,
        terminated=random() < draw(st.sampled_from([0.0, 0.2, 0.5])),
        actions=2 * random()[..., None] - 1,
        resets=random() < 0.3,
    )


@dataclass
class World:
    """One world as the reference follows it, an event at a time."""

    mode: AutoresetMode
    over: bool = True
    rewards: list[float] = field(default_factory=list)
    """Of the running episode."""
    seen: list[np.ndarray] = field(default_factory=list)
    """Observations of the running episode."""
    ended: list[tuple[float, int]] = field(default_factory=list)
    """Return and length of every episode that ended."""
    samples: list[np.ndarray] = field(default_factory=list)
    """All observations that count."""

    def begin(self, obs: np.ndarray) -> None:
        self.over, self.rewards, self.seen = False, [], []
        self.see(obs)

    def see(self, obs: np.ndarray) -> None:
        self.seen.append(obs)
        self.samples.append(obs)

    def step(self, obs: np.ndarray, reward: float, done: bool, final: np.ndarray | None) -> bool:
        """Follow a step; say whether it was part of an episode."""
        if self.over:
            if self.mode is AutoresetMode.NEXT_STEP:
                self.begin(obs)
            return False
        self.rewards.append(reward)
        self.see(obs if final is None else final)
        if done:
            self.over = True
            self.ended.append((sum(self.rewards), len(self.rewards)))
            if self.mode is AutoresetMode.SAME_STEP:
                self.begin(obs)
        return True


def follow(script: Script) -> Iterator[tuple[tuple[Any, ...], list[World], list[bool]]]:
    """Yield the bare environment's events, with the worlds after them and whether their step counted."""
    env = script.build()
    worlds = [World(script.mode) for _ in range(env.num_envs)]
    for event in script.run(env):
        if len(event) == 2:
            for world, mask, obs in zip(worlds, event[0], event[1].numpy(), strict=True):
                if mask:
                    world.begin(obs)
            yield event, worlds, []
            continue
        obs, reward, terminated, truncated, info = event
        final = info["final_obs"].numpy() if "final_obs" in info else [None] * len(worlds)
        columns = zip(
            worlds, obs.numpy(), reward.tolist(), (terminated | truncated).tolist(), final, strict=True
        )
        yield event, worlds, [world.step(*values) for world, *values in columns]


@settings(max_examples=40, deadline=None)
@given(scripts())
def test_episode_statistics_are_those_of_a_plain_count(script: Script) -> None:
    """Returns, lengths, masks and queues follow a count by hand; an episode is reported once."""
    env = ours.RecordEpisodeStatistics(script.build(), buffer_length=4)
    reported: list[tuple[float, int]] = []
    for *_, info in (event for event in script.run(env) if len(event) == 5):
        episode, ended = info["episode"], info["_episode"]
        reported += zip(episode["r"][ended].tolist(), episode["l"][ended].tolist(), strict=True)
        assert bool((episode["r"][~ended] == 0).all() and (episode["l"][~ended] == 0).all())
    *_, (_, worlds, _) = follow(script)
    expected = sorted(episode for world in worlds for episode in world.ended)
    np.testing.assert_allclose(np.array(sorted(reported)), np.array(expected), rtol=1e-5, atol=1e-5)
    assert int(env.episode_count) == len(expected)
    np.testing.assert_allclose(env.return_queue.numpy(), [r for r, _ in reported[-4:]], rtol=1e-5, atol=1e-5)
    assert env.length_queue.tolist() == [length for _, length in reported[-4:]]


def pooled(samples: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the samples and of a prior N(0, 1) that weighs 1e-4 of one."""
    values, prior = np.array(samples, dtype=np.float64), 1e-4
    total = len(values) + prior
    mean = values.sum(0) / total
    return mean, (((values - mean) ** 2).sum(0) + prior * (1 + mean**2)) / total


@settings(max_examples=30, deadline=None)
@given(scripts())
def test_rewards_are_divided_by_the_deviation_of_discounted_returns(script: Script) -> None:
    """Every scaled reward is the raw one over the standard deviation of all discounted returns so far."""
    gamma, discounted, samples = 0.9, {}, []
    env = ours.NormalizeReward(script.build(), gamma=gamma)
    for (event, worlds, counted), got in zip(follow(script), script.run(env), strict=True):
        if len(event) == 2:
            discounted.update({i: 0.0 for i in event[0].nonzero()[:, 0].tolist()})
            continue
        _, reward, terminated, *_ = event
        for i, counts in enumerate(counted):
            if counts:
                discounted[i] = discounted[i] * gamma * (not terminated[i]) + reward[i].item()
                samples.append(discounted[i])
            if not worlds[i].rewards:
                discounted[i] = 0.0
        _, variance = pooled(samples)
        np.testing.assert_allclose(got[1].numpy(), reward.numpy() / np.sqrt(variance + 1e-8), rtol=2e-4)
    np.testing.assert_allclose(env.return_rms.var.item(), variance, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(scripts())
def test_observations_are_standardised_by_all_that_were_seen(script: Script) -> None:
    """Statistics take in every observation of every episode once, final ones too, and scale what is
    returned.
    """
    env = ours.NormalizeObservation(script.build())
    for (event, worlds, _), got in zip(follow(script), script.run(env), strict=True):
        mean, variance = pooled([obs for world in worlds for obs in world.samples])
        scale = lambda obs: (obs.numpy() - mean) / np.sqrt(variance + 1e-8)  # noqa: E731, B023
        which = 1 if len(event) == 2 else 0
        np.testing.assert_allclose(got[which].numpy(), scale(event[which]), rtol=1e-3, atol=1e-3)
        if len(event) == 5 and "final_obs" in event[4]:
            expected = scale(event[4]["final_obs"])
            np.testing.assert_allclose(got[4]["final_obs"].numpy(), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(env.obs_rms["policy"].mean.numpy(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(env.obs_rms["policy"].var.numpy(), variance, rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(scripts(), st.integers(1, 4))
def test_history_holds_the_last_observations_of_the_episode(script: Script, length: int) -> None:
    """A running world shows its last observations, oldest first, padded with the episode's first one."""
    env = ours.HistoryObservation(script.build(critic=True), length)
    frames = lambda seen: np.concatenate(([seen[0]] * length + seen)[-length:])  # noqa: E731
    for (event, worlds, _), got in zip(follow(script), script.run(env), strict=True):
        obs = got[0] if len(event) == 5 else got[1]
        raw = event[0] if len(event) == 5 else event[1]
        for i, world in enumerate(worlds):
            if not world.over:
                np.testing.assert_array_equal(obs["policy"][i], frames(world.seen))
        np.testing.assert_array_equal(obs["critic"], 10 * raw)


def test_history_of_a_final_observation_is_the_old_episodes() -> None:
    """In SAME_STEP mode `final_obs` ends the old episode's history, while `obs` starts the new one's."""
    rewards, never = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.bool)
    env = ours.HistoryObservation(ScriptedEnv(rewards, never, max_episode_steps=3, seed=0), 3)
    env.reset(seed=0)
    for _ in range(3):
        obs, _, _, _, info = env.step(torch.zeros(2, 1))
    episode_and_step = lambda value: value.unflatten(-1, (3, 4))[0, :, :2].tolist()  # noqa: E731
    first = obs[0, 0].item()
    assert episode_and_step(info["final_obs"]) == [[first - 1, 1], [first - 1, 2], [first - 1, 3]]
    assert episode_and_step(obs) == [[first, 0]] * 3


@settings(max_examples=30, deadline=None)
@given(scripts(), st.sampled_from([0, 2, (0, 3)]))
def test_actions_arrive_late_and_never_in_the_next_episode(script: Script, delay: Any) -> None:
    """The environment gets the action of `delay` steps ago, and zeros until an episode's first one
    arrives.
    """
    env = ours.ActionDelay(script.build(), delay)
    low, high = delay if isinstance(delay, tuple) else (delay, delay)
    queues: list[deque[float]] = [deque() for _ in range(env.num_envs)]
    actions = iter(script.actions)
    delays = env.delay.clone()
    for (event, worlds, counted), _ in zip(follow(script), script.run(env), strict=True):
        if len(event) == 5:
            action = next(actions)[:, 0].tolist()
            for i, counts in enumerate(counted):
                if counts:
                    queues[i].append(action[i])
                    late = queues[i][-1 - int(delays[i])] if len(queues[i]) > delays[i] else 0.0
                    assert env.unwrapped.applied[i].item() == pytest.approx(late)
        for i, world in enumerate(worlds):
            if len(world.seen) == 1:
                queues[i].clear()
                delays[i] = env.delay[i]
        assert torch.equal(delays, env.delay), "a delay changed within an episode"
        assert bool(((low <= delays) & (delays <= high)).all())


def test_drawn_delays_cover_their_range_and_follow_the_seed() -> None:
    """Delays from (1, 3) take all three values; the same seed draws the same."""
    env = ours.ActionDelay(make(CARTPOLE, num_envs=64), (1, 3))
    env.reset(seed=1)
    first = env.delay.clone()
    assert set(first.tolist()) == {1, 2, 3}
    env.reset(seed=1)
    assert torch.equal(first, env.delay)
    env.reset(seed=2)
    assert not torch.equal(first, env.delay)


def test_a_delay_starts_with_what_is_nearest_to_zero() -> None:
    """Where zero is no valid action, the bound nearest to it stands for the actions before the first."""
    env = ours.ActionDelay(ours.RescaleAction(make(CARTPOLE, num_envs=2, seed=0), 1.0, 3.0), 1)
    env.reset(seed=0)
    env.step(torch.full((2, 1), 2.0))
    assert env.unwrapped.physics.field("ctrl").tolist() == [[-1.0], [-1.0]]
    env.step(torch.full((2, 1), 2.0))
    assert env.unwrapped.physics.field("ctrl").tolist() == [[0.0], [0.0]]


def test_frozen_statistics_evaluate_a_batch_of_another_size() -> None:
    """Statistics shared with an evaluation of other size scale it, and do not change while frozen."""
    train = ours.NormalizeObservation(make(QUADRUPED, num_envs=6, seed=0))
    train.reset(seed=0)
    for _ in range(4):
        train.step(torch.zeros(6, 12))
    evaluation = ours.NormalizeObservation(make(QUADRUPED, num_envs=2, seed=1))
    evaluation.obs_rms, evaluation.update_running_mean = train.obs_rms, False
    before = {name: rms.mean.clone() for name, rms in train.obs_rms.items()}
    obs, _ = evaluation.reset(seed=1)
    raw, _ = make(QUADRUPED, num_envs=2, seed=1).reset(seed=1)
    for name, rms in train.obs_rms.items():
        assert torch.equal(rms.mean, before[name])
        expected = (raw[name] - rms.mean) / (rms.var + 1e-8).sqrt()
        torch.testing.assert_close(obs[name], expected.float(), rtol=1e-3, atol=1e-3)


def test_a_frozen_reward_scale_stays() -> None:
    """With `update_running_mean` False the reward's scale stays what it is."""
    env = ours.NormalizeReward(make(CARTPOLE, num_envs=4, seed=0))
    env.reset(seed=0)
    env.step(torch.ones(4, 1))
    env.update_running_mean, before = False, env.return_rms.var.clone()
    env.step(torch.ones(4, 1))
    assert torch.equal(env.return_rms.var, before)
