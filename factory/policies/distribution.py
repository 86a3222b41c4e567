"""Distributions over actions, chosen by the action space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn


class Distribution(nn.Module, ABC):
    """A distribution over actions, given features (..., num_features) from the actor."""

    kind: str
    """Kind of its control tokens, see `TokenSpec.kind`."""
    num_features: int
    """Outputs of the actor."""

    @abstractmethod
    def sample(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return one action for every row of features, as the environment takes them."""

    @abstractmethod
    def mode(self, features: Tensor) -> Tensor:
        """Return the likeliest action for every row of features."""

    @abstractmethod
    def log_prob(self, features: Tensor, action: Tensor) -> Tensor:
        """Return the log-probability of actions. Shapes: (..., num_features), (..., A) -> (...,)."""

    @abstractmethod
    def entropy(self, features: Tensor) -> Tensor:
        """Return the entropy [nat]. Shape: (..., num_features) -> (...,)."""


def for_space(space: gymnasium.Space[Any], *, init_std: float) -> Distribution:
    """Return the distribution for a policy's action space: a flat Box or a Discrete that starts at 0."""
    # Imported here: both modules derive their class from this one's.
    from factory.policies.categorical import Categorical
    from factory.policies.gaussian import Gaussian

    if isinstance(space, Discrete):
        return Categorical(int(space.n))
    assert space.shape is not None and len(space.shape) == 1, f"{space} is no flat Box"
    return Gaussian(space.shape[0], init_std=init_std)
