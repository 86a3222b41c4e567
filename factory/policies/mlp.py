"""The multilayer-perceptron actor-critic."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from factory import kernels
from factory.energy.tokens import TokenSpec
from factory.policies import distribution
from factory.policies.base import ActorCritic, Evaluation, Observations, Policy
from factory.policies.mlp_config import MlpPolicyConfig
from factory.policies.normalizer import RunningNormalizer
from factory.policies.set_encoder import SetNormalizer, make_network


class MlpPolicy(ActorCritic):
    """Actor with Gaussian or categorical actions, depending on the action space, and an asymmetric critic.

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
            action_space: action space of one world, a flat Box or a Discrete.
            control_hz: control steps per second, recorded in `token_spec` [Hz].
            generator: source of the exploration noise, on the policy's device.
        """
        super().__init__()
        self.generator = generator
        self.distribution = distribution.for_space(action_space, init_std=cfg.init_std)
        outputs = self.distribution.num_features
        self.token_spec = TokenSpec(
            kind=self.distribution.kind, control_hz=control_hz, obs_dim=obs_size, act_dim=outputs
        )
        layout = cfg.set_layout
        network = functools.partial(
            make_network, layout=layout, activation=cfg.activation, precision=cfg.precision
        )
        # The small gain makes first actions nearly independent of observations, so that exploration starts
        # from the noise alone (Andrychowicz et al. 2020, arXiv:2006.05990).
        self.actor = network(obs_size, cfg.actor_hidden, outputs, gain=0.01)
        self.critic = network(critic_obs_size, cfg.critic_hidden, 1, gain=1.0)
        self.obs_normalizer = _normalizer(cfg, obs_size)
        self.critic_normalizer = _normalizer(cfg, critic_obs_size)
        # Returns grow while the policy improves, so their statistics forget after a million samples.
        self.return_normalizer = RunningNormalizer(1, max_count=1e6)

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds of the actor for one observation; the critic is not part of acting."""
        return self.actor.num_multiply_adds

    def prepare(self) -> None:
        """Compile the passes of the networks for a CPU."""
        if kernels.are_enabled() and self.device.type == "cpu" and self.actor.precision == torch.float32:
            kernels.prepare_passes(torch.get_num_threads())

    @torch.no_grad()
    def act(self, obs: Observations, state: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Sample actions, with their log-probability (num_envs,), see `Policy.act`."""
        # The normaliser's statistics do not move during a rollout, so that ratios compare equal inputs.
        features = self.actor(self.obs_normalizer(obs["policy"]))
        action = self.distribution.sample(features, self.generator)
        log_prob = self.distribution.log_prob(features, action.view(len(features), -1))
        return action, {"log_prob": log_prob}, state

    @torch.no_grad()
    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest action (num_envs, A) or (num_envs,) and the unchanged state."""
        features = self.actor(self.obs_normalizer(obs["policy"]))
        return self.distribution.mode(features), state

    def for_export(self) -> Policy:
        """Return a copy of the actor that computes in float32, so that any machine can run it."""
        twin: Any = super().for_export()
        for part in ("critic", "critic_normalizer", "return_normalizer"):
            delattr(twin, part)
        twin.actor.precision = torch.float32
        return twin

    @torch.no_grad()
    def value(self, obs: Observations) -> Tensor:
        """Return values in return units. Shape: (..., critic_obs_size) -> (...,)."""
        # V = mean + std * critic(obs)
        normalized = self.critic(self.critic_normalizer(obs["critic"])).squeeze(-1)
        stats = self.return_normalizer
        return normalized * stats.std.float() + stats.mean.float()

    def normalize(self, obs: Observations) -> Observations:
        """Return observations as `evaluate` expects them."""
        # Minibatches may come without the group `critic`, if the critic sees the actor's observations.
        normalizers = {"policy": self.obs_normalizer, "critic": self.critic_normalizer}
        return {name: normalizers[name](group) for name, group in obs.items()}

    def normalize_returns(self, returns: Tensor) -> Tensor:
        """Return returns in the critic's units. Shape: (...,) -> (...,) float32."""
        stats = self.return_normalizer
        return ((returns - stats.mean) / stats.std).float()

    def evaluate(
        self, obs: Observations, action: Tensor, *, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Evaluation:
        """Return log-probability, entropy and normalised value of a minibatch, see `ActorCritic.evaluate`."""
        features = self.actor(obs["policy"])
        value = self.critic(obs.get("critic", obs["policy"])).squeeze(-1)
        log_prob = self.distribution.log_prob(features, action)
        return Evaluation(log_prob, self.distribution.entropy(features), value)

    @torch.no_grad()
    def update_observations(self, obs: Observations, live: Tensor | None = None) -> None:
        """Update the statistics with a rollout's live rows. Shapes: (T, num_envs, size), (T, num_envs)."""
        is_shared = obs["critic"] is obs["policy"] and self._normalizers_are_equal()
        self.obs_normalizer.update(obs["policy"], live)
        if is_shared:
            # Equal statistics and the same observations: the result is the same as well.
            self.critic_normalizer.load_state_dict(self.obs_normalizer.state_dict())
        else:
            self.critic_normalizer.update(obs["critic"], live)

    def _normalizers_are_equal(self) -> bool:
        """Return whether both groups have the same statistics; False on a GPU, which would have to wait."""
        if self.device.type != "cpu":
            return False
        own = self.obs_normalizer.state_dict()
        other = self.critic_normalizer.state_dict()
        return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)

    @torch.no_grad()
    def update_returns(self, returns: Tensor, live: Tensor | None = None) -> None:
        """Update the return statistics and keep the critic's predictions the same. Shapes: (T, num_envs)."""
        stats = self.return_normalizer
        old_std = stats.std.clone()
        old_mean = stats.mean.clone()
        stats.update(returns[..., None], live)

        # The critic's last layer w x + b predicts (return - mean) / std. With new statistics the same return
        # is predicted by w' = w std / std' and b' = (b std + mean - mean') / std'.
        last = self.critic.last
        ratio = (old_std / stats.std).float()
        shift = ((old_mean - stats.mean) / stats.std).float()
        last.weight.mul_(ratio)
        last.bias.mul_(ratio).add_(shift)


def _normalizer(cfg: MlpPolicyConfig, size: int) -> RunningNormalizer | Identity:
    """Return the normaliser of observations with `size` features."""
    if not cfg.normalize_observations:
        return Identity(size)
    if cfg.set_layout is not None:
        return SetNormalizer(size, layout=cfg.set_layout)
    return RunningNormalizer(size)


class Identity(nn.Module):
    """Normaliser that leaves observations unchanged."""

    def __init__(self, size: int) -> None:
        super().__init__()

    def forward(self, value: Tensor) -> Tensor:
        """Return the value unchanged."""
        return value

    def update(self, batch: Tensor, live: Tensor | None = None) -> None:
        """Ignore the batch."""
