"""A loop in CleanRL's style, `ppo_continuous_action.py` without its logging, trains on torch wrappers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.envs.wrappers import ClipAction, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics

pytestmark = pytest.mark.slow

NUM_ENVS, NUM_STEPS, GAMMA, GAE_LAMBDA = 64, 32, 0.98, 0.95


def mlp(obs_size: int, out_size: int, out_gain: float) -> nn.Sequential:
    layers = nn.Linear(obs_size, 64), nn.Linear(64, 64), nn.Linear(64, out_size)
    for layer, gain in zip(layers, (2**0.5, 2**0.5, out_gain), strict=True):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


class Agent(nn.Module):
    def __init__(self, obs_size: int, action_size: int) -> None:
        super().__init__()
        self.critic, self.actor_mean = mlp(obs_size, 1, 1.0), mlp(obs_size, action_size, 0.01)
        self.actor_logstd = nn.Parameter(torch.zeros(1, action_size))

    def forward(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        distribution = Normal(self.actor_mean(obs), self.actor_logstd.exp())
        action = distribution.sample() if action is None else action
        return action, distribution.log_prob(action).sum(1), self.critic(obs)[:, 0]


def update(agent: Agent, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, ...]) -> None:
    for _ in range(4):
        for rows in torch.randperm(NUM_ENVS * NUM_STEPS).split(512):
            obs, actions, log_probs, advantages, returns = (tensor[rows] for tensor in batch)
            _, new_log_probs, values = agent(obs, actions)
            ratio = (new_log_probs - log_probs).exp()
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            policy_loss = torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)).mean()
            loss = policy_loss + 0.5 * (values - returns).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def test_a_cleanrl_loop_improves_the_return() -> None:
    """Twenty iterations of PPO over four wrappers multiply the return of the first episodes."""
    torch.manual_seed(1)
    statistics = RecordEpisodeStatistics(
        CartpoleSwingup(num_envs=NUM_ENVS, max_episode_steps=96, seed=1), NUM_ENVS
    )
    envs = NormalizeReward(NormalizeObservation(ClipAction(statistics)), gamma=GAMMA)
    agent = Agent(5, 1)
    optimizer = torch.optim.Adam(agent.parameters(), lr=2e-3)
    next_obs, _ = envs.reset(seed=1)
    next_done = torch.zeros(NUM_ENVS)
    first = None
    for _ in range(20):
        rows = []
        with torch.no_grad():
            for _ in range(NUM_STEPS):
                action, log_prob, value = agent(next_obs)
                obs, done = next_obs, next_done
                next_obs, reward, terminated, truncated, info = envs.step(action)
                next_done = (terminated | truncated).float()
                rows.append((obs, action, log_prob, value, done, reward))
                if first is None and info["_episode"].any():
                    first = float(info["episode"]["r"][info["_episode"]].mean())
            next_value = agent(next_obs)[2]
        obs, actions, log_probs, values, dones, rewards = (
            torch.stack(column) for column in zip(*rows, strict=True)
        )
        advantages, last = torch.zeros_like(rewards), torch.zeros(NUM_ENVS)
        for t in reversed(range(NUM_STEPS)):
            live = 1.0 - (next_done if t == NUM_STEPS - 1 else dones[t + 1])
            following = next_value if t == NUM_STEPS - 1 else values[t + 1]
            last = rewards[t] + GAMMA * following * live - values[t] + GAMMA * GAE_LAMBDA * live * last
            advantages[t] = last
        batch = (obs, actions, log_probs, advantages, advantages + values)
        update(agent, optimizer, tuple(tensor.flatten(0, 1) for tensor in batch))
    trained = float(statistics.return_queue.mean())
    assert first is not None and trained > 1.7 * first and trained > 10, (first, trained)
