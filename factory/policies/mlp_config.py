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


@dataclass(frozen=True, kw_only=True)
class SetLayout:
    """The set at the end of an observation, and the perceptron of its elements."""

    count: int
    """Elements of the set; those that are missing are zeros."""
    size: int
    """Features of an element."""
    hidden: tuple[int, ...]
    """Units of the layers of its perceptron; the last of them are what the maximum is taken of."""

    @property
    def num_features(self) -> int:
        """Features of the whole set."""
        return self.count * self.size


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

    set_count: int = 0
    """Elements of the set that observations end with, such as the cars around; 0: they have none."""
    set_size: int = 0
    """Features of an element."""
    set_hidden: list[int] = field(default_factory=list)
    """Units of the layers that every element goes through; the largest outputs of all join the rest."""

    @property
    def set_layout(self) -> SetLayout | None:
        """The set at the end of observations, if there is one."""
        if not self.set_count:
            return None
        return SetLayout(count=self.set_count, size=self.set_size, hidden=tuple(self.set_hidden))

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        # Kernels and oneDNN implement these three; each maps zero to zero, which padding relies on.
        choices = ", ".join(ACTIVATIONS)
        require(
            self.activation in ACTIVATIONS, "policy.activation", self.activation, f"choose one of {choices}"
        )
        require(self.init_std > 0, "policy.init_std", self.init_std, "must be positive")
        layers = ["actor_hidden", "critic_hidden"]
        if self.set_count or self.set_hidden:
            layers.append("set_hidden")
        for key in layers:
            sizes = getattr(self, key)
            require(
                bool(sizes) and min(sizes) > 0, f"policy.{key}", sizes, "needs at least one positive size"
            )
            require(max(sizes) <= _WIDEST, f"policy.{key}", sizes, f"must be at most {_WIDEST} each")
        for key in ("set_count", "set_size"):
            value = getattr(self, key)
            require(0 <= value <= _WIDEST, f"policy.{key}", value, f"must be in [0, {_WIDEST}]")
        is_whole = bool(self.set_count) == bool(self.set_size)
        require(is_whole, "policy.set_size", self.set_size, "set_count and set_size belong together")

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

        for name, size in obs_sizes.items():
            fits = self.set_count * self.set_size <= size
            remedy = f"the set has more features than the {size} of the group {name}"
            require(fits, "policy.set_count", self.set_count, remedy)
        return MlpPolicy(
            self,
            obs_size=obs_sizes["policy"],
            critic_obs_size=obs_sizes["critic"],
            action_space=action_space,
            control_hz=control_hz,
            generator=generator,
        )
