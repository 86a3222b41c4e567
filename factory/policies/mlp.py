"""The multilayer-perceptron actor-critic."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor, nn

from factory.energy.tokens import TokenSpec
from factory.policies import distribution
from factory.policies.normalizer import RunningNormalizer
from factory.policies.perceptron import ACTIVATIONS, PRECISIONS, Perceptron
from factory.validation import require


@dataclass(kw_only=True)
class MlpPolicyConfig:
    """Actor and critic as separate perceptrons over normalised observations."""

    name: str = "mlp"
    """Name of the option in the Hydra group `policy`."""
    actor_hidden: list[int] = field(default_factory=lambda: [128, 128])
    """Units of the actor's hidden layers."""
    critic_hidden: list[int] = field(default_factory=lambda: [128, 128])
    """Units of the critic's hidden layers."""
    activation: str = "elu"
    """elu, tanh or relu."""
    precision: str = "float32"
    """Of matrix products: float32; tf32 (a GPU's); or bfloat16, which is faster where the hardware has it."""
    init_std: float = 0.5
    """Initial standard deviation of the noise on continuous actions [action units]."""
    normalize_observations: bool = True
    """Standardise observations by their running mean and variance."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for key, choices in (("activation", ACTIVATIONS), ("precision", PRECISIONS)):
            value = getattr(self, key)
            require(value in choices, f"policy.{key}", value, f"choose one of {', '.join(choices)}")
        require(self.init_std > 0, "policy.init_std", self.init_std, "must be positive")
        for key in ("actor_hidden", "critic_hidden"):
            sizes = getattr(self, key)
            require(
                bool(sizes) and min(sizes) > 0, f"policy.{key}", sizes, "needs at least one positive size"
            )


class Evaluation(NamedTuple):
    """What a learner asks of a policy for a minibatch of B samples."""

    log_prob: Tensor
    """Shape: (B,)."""
    entropy: Tensor
    """Shape: (B,)."""
    value: Tensor
    """Normalised value. Shape: (B,)."""


class MlpPolicy(nn.Module):
    """Actor, whose actions are Gaussian or categorical as the action space is, and asymmetric critic.

    The critic predicts returns standardised by `return_normalizer`; `update_returns` moves the statistics and
    rescales the last layer so that the predicted returns stay as they were (PopArt, van Hasselt et al. 2016,
    arXiv:1602.07714).
    """

    def __init__(
        self,
        cfg: MlpPolicyConfig,
        *,
        obs_size: int,
        critic_obs_size: int,
        action_space: gymnasium.Space[Any],
        control_hz: float,
        generator: torch.Generator,
    ) -> None:
        """Build the networks.

        Args:
            cfg: sizes and activation.
            obs_size: features of the `policy` observation group.
            critic_obs_size: features of the `critic` group, or `obs_size` when there is one group.
            action_space: of one world: a flat Box or a Discrete.
            control_hz: control steps a second, recorded in `token_spec` [Hz].
            generator: source of the exploration noise, on the policy's device.
        """
        super().__init__()
        self.generator = generator
        self.distribution = distribution.for_space(action_space, init_std=cfg.init_std)
        outputs = self.distribution.num_features
        self.token_spec = TokenSpec(
            kind=self.distribution.kind, control_hz=control_hz, obs_dim=obs_size, act_dim=outputs
        )
        perceptron = functools.partial(Perceptron, activation=cfg.activation, precision=cfg.precision)
        self.actor = perceptron(obs_size, cfg.actor_hidden, outputs, gain=0.01)
        self.critic = perceptron(critic_obs_size, cfg.critic_hidden, 1, gain=1.0)
        normalizer = RunningNormalizer if cfg.normalize_observations else Identity
        self.obs_normalizer = normalizer(obs_size)
        self.critic_normalizer = normalizer(critic_obs_size)
        self.return_normalizer = RunningNormalizer(1, max_count=1e6)

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds of the actor for one observation."""
        return sum(layer.weight.numel() for layer in self.actor if isinstance(layer, nn.Linear))

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the recurrent state at episode start; a perceptron has none. Shape: (num_envs, 0)."""
        return torch.zeros(num_envs, 0, device=self.return_normalizer.mean.device)

    @torch.no_grad()
    def act(self, obs: dict[str, Tensor], state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample actions; values come from `value`, for a whole rollout at once.

        Returns:
            action as the space has it (num_envs, A) or (num_envs,), its log-probability (num_envs,), next state.
        """
        features = self.actor(self.obs_normalizer(obs["policy"]))
        action = self.distribution.sample(features, self.generator)
        return action, self.distribution.log_prob(features, action.view(len(features), -1)), state

    @torch.no_grad()
    def act_deterministic(self, obs: dict[str, Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest action (num_envs, A) or (num_envs,) and the next state."""
        return self.distribution.mode(self.actor(self.obs_normalizer(obs["policy"]))), state

    @torch.no_grad()
    def value(self, obs: dict[str, Tensor]) -> Tensor:
        """Return values in return units. Shape: (..., critic_obs_size) -> (...,)."""
        normalized = self.critic(self.critic_normalizer(obs["critic"])).squeeze(-1)
        stats = self.return_normalizer
        return normalized * stats.std.float() + stats.mean.float()

    def normalize(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return observations as `evaluate` expects them."""
        normalizers = {"policy": self.obs_normalizer, "critic": self.critic_normalizer}
        return {name: normalizers[name](group) for name, group in obs.items()}

    def evaluate(self, obs: dict[str, Tensor], action: Tensor) -> Evaluation:
        """Return log-probability, entropy and normalised value of a minibatch of normalised observations.

        Without a group `critic` the critic sees the policy's. Shape of `action`: (B, A), with A = 1 for the index of
        a discrete one.
        """
        features = self.actor(obs["policy"])
        value = self.critic(obs.get("critic", obs["policy"])).squeeze(-1)
        return Evaluation(
            self.distribution.log_prob(features, action), self.distribution.entropy(features), value
        )

    @torch.no_grad()
    def update_observations(self, obs: dict[str, Tensor], live: Tensor | None = None) -> None:
        """Move the observation statistics by a rollout's live rows. Shapes: (T, num_envs, size), (T, num_envs)."""
        self.obs_normalizer.update(obs["policy"], live)
        self.critic_normalizer.update(obs["critic"], live)

    @torch.no_grad()
    def update_returns(self, returns: Tensor, live: Tensor | None = None) -> None:
        """Move the statistics by the returns of live rows; keep the critic's predictions. Shapes: (T, num_envs)."""
        stats = self.return_normalizer
        old_std, old_mean = stats.std.clone(), stats.mean.clone()
        stats.update(returns[..., None], live)
        last: Any = self.critic[-1]
        ratio = (old_std / stats.std).float()
        last.weight.mul_(ratio)
        last.bias.mul_(ratio).add_(((old_mean - stats.mean) / stats.std).float())


class Identity(nn.Module):
    """Stands in for a normaliser when observations are used as they come."""

    def __init__(self, size: int) -> None:
        super().__init__()

    def forward(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value

    def update(self, batch: Tensor, live: Tensor | None = None) -> None:
        """Learn nothing."""
