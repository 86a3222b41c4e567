"""A recurrent policy: a gated recurrent unit with a Gaussian head."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from factory.energy.tokens import TokenSpec
from factory.policies.base import ActorCritic, Evaluation, Observations
from shuttle.gru_config import GruConfig


class GruPolicy(ActorCritic):
    """Remembers what it saw earlier in the episode; the critic sees the present observation alone."""

    is_recurrent = True

    def __init__(
        self,
        cfg: GruConfig,
        *,
        obs_sizes: dict[str, int],
        action_space: gymnasium.Space[Any],
        control_hz: float,
        generator: torch.Generator,
    ) -> None:
        """Build actor and critic; see `PolicyConfig.build` for the arguments."""
        super().__init__()
        num_actions = math.prod(action_space.shape or ())
        self.generator = generator
        self.cell = nn.GRUCell(obs_sizes["policy"], cfg.cells)
        self.head = nn.Linear(cfg.cells, num_actions)
        self.log_std = nn.Parameter(torch.full((num_actions,), math.log(cfg.init_std)))
        self.critic = nn.Sequential(
            nn.Linear(obs_sizes["critic"], cfg.cells), nn.Tanh(), nn.Linear(cfg.cells, 1)
        )
        self.token_spec = TokenSpec(
            kind="vector", control_hz=control_hz, obs_dim=obs_sizes["policy"], act_dim=num_actions
        )

    @torch.no_grad()
    def act(self, obs: Observations, state: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Sample actions, with their log-probability."""
        state = self.cell(obs["policy"], state)
        mean = self.head(state)
        noise = torch.randn(mean.shape, generator=self.generator, device=mean.device)
        action = mean + noise * self.log_std.exp()
        return action, {"log_prob": self._log_prob(action, mean)}, state

    @torch.no_grad()
    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the action distribution."""
        state = self.cell(obs["policy"], state)
        return self.head(state), state

    def initial_state(self, num_envs: int) -> Tensor:
        """Return an empty memory."""
        return torch.zeros(num_envs, self.cell.hidden_size, device=self.device)

    @torch.no_grad()
    def value(self, obs: Observations) -> Tensor:
        """Return the critic's values."""
        return self.critic(obs["critic"]).squeeze(-1)

    def evaluate(
        self, obs: Observations, action: Tensor, *, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Evaluation:
        """Return log-probability, entropy and value, after playing the rollout again from `state`."""
        assert state is not None
        assert starts is not None
        empty = torch.zeros_like(state)
        means = []
        for step, observation in enumerate(obs["policy"]):
            state = self.cell(observation, torch.where(starts[step][:, None], empty, state))
            means.append(self.head(state))
        mean = torch.stack(means)
        value = self.critic(obs.get("critic", obs["policy"])).squeeze(-1)
        # Entropy of a normal distribution: log std + (1 + log 2 pi) / 2, summed over the actions.
        entropy = (self.log_std + 0.5 * (1.0 + math.log(math.tau))).sum().expand(mean.shape[:-1])
        return Evaluation(self._log_prob(action, mean), entropy, value)

    def _log_prob(self, action: Tensor, mean: Tensor) -> Tensor:
        return (
            torch.distributions.Normal(mean, self.log_std.exp(), validate_args=False).log_prob(action).sum(-1)
        )
