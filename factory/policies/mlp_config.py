"""Settings of the multilayer-perceptron policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.policies.config import PolicyConfig
from factory.validation import require

if TYPE_CHECKING:
    import gymnasium
    import torch

    from factory.policies.mlp import MlpPolicy

ACTIVATIONS = ("elu", "tanh", "relu")
"""Activations of hidden layers."""
_WIDEST = 65536
"""Most units of a hidden layer."""


@dataclass(kw_only=True)
class MlpPolicyConfig(PolicyConfig):
    """Actor and critic as separate perceptrons over normalised observations."""

    name: str = "mlp"
    actor_hidden: list[int] = field(default_factory=lambda: [128, 128])
    """Units of the actor's hidden layers."""
    critic_hidden: list[int] = field(default_factory=lambda: [128, 128])
    """Units of the critic's hidden layers."""
    activation: str = "elu"
    """elu, tanh or relu."""
    init_std: float = 0.5
    """Initial standard deviation of the noise on continuous actions [action units]."""
    normalize_observations: bool = True
    """Standardise observations by their running mean and variance."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        # Kernels and oneDNN implement these three; each maps zero to zero, which padding relies on.
        choices = ", ".join(ACTIVATIONS)
        require(
            self.activation in ACTIVATIONS, "policy.activation", self.activation, f"choose one of {choices}"
        )
        require(self.init_std > 0, "policy.init_std", self.init_std, "must be positive")
        for key in ("actor_hidden", "critic_hidden"):
            sizes = getattr(self, key)
            require(
                bool(sizes) and min(sizes) > 0, f"policy.{key}", sizes, "needs at least one positive size"
            )
            require(max(sizes) <= _WIDEST, f"policy.{key}", sizes, f"must be at most {_WIDEST} each")

    def build(
        self,
        *,
        obs_sizes: dict[str, int],
        action_space: gymnasium.Space[Any],
        control_hz: float,
        generator: torch.Generator,
    ) -> MlpPolicy:
        """Build the actor-critic, see `PolicyConfig.build`."""
        # Imported here: settings must be available before torch is loaded.
        from factory.policies.mlp import MlpPolicy

        return MlpPolicy(
            self,
            obs_size=obs_sizes["policy"],
            critic_obs_size=obs_sizes["critic"],
            action_space=action_space,
            control_hz=control_hz,
            generator=generator,
        )
