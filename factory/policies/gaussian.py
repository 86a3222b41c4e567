"""Diagonal Gaussian over actions. A = number of action dimensions. Features are means."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from factory.policies.distribution import Distribution
from factory.runtime import distributed

_HALF_LOG_TAU = 0.5 * math.log(math.tau)


class Gaussian(Distribution):
    """Actions around the mean from the actor, with a learned standard deviation that is independent of it."""

    kind = "vector"

    def __init__(self, num_dimensions: int, *, init_std: float) -> None:
        super().__init__()
        self.num_features = num_dimensions
        # The logarithm needs no bound to keep the deviation positive.
        self.log_std = nn.Parameter(torch.full((num_dimensions,), math.log(init_std)))

    def sample(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return actions. Shape: (..., A) -> (..., A)."""
        # a = mu + sigma z. Every process draws z for all worlds and keeps its own rows, so the noise does
        # not depend on how the worlds are shared out.
        sample = partial(torch.randn, generator=generator, device=features.device)
        noise = distributed.shard().draw(sample, *features.shape)
        return torch.addcmul(features, noise, self.log_std.exp())

    def mode(self, features: Tensor) -> Tensor:
        """Return the means. Shape: (..., A) -> (..., A)."""
        return features

    def log_prob(self, features: Tensor, action: Tensor) -> Tensor:
        """Return log-densities. Shapes: (..., A), (..., A) -> (...,)."""
        return log_prob(action, features, self.log_std)

    def entropy(self, features: Tensor) -> Tensor:
        """Return the entropy [nat], the same for all features. Shape: (..., A) -> (...,)."""
        return entropy(self.log_std).expand(features.shape[:-1])


def log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density summed over action dimensions. Shapes: (..., A), (..., A), (A,) -> (...,)."""
    # log N(a; mu, sigma) = -sum_i (a_i - mu_i)^2 / (2 sigma_i^2) - sum_i log sigma_i - A/2 log(2 pi)
    half_precision = 0.5 * (-2.0 * log_std).exp()
    return -((action - mean).square() @ half_precision) - (log_std.sum() + action.shape[-1] * _HALF_LOG_TAU)


def entropy(log_std: Tensor) -> Tensor:
    """Return the differential entropy [nat]. Shape: (A,) -> ()."""
    # sum_i (log sigma_i + 1/2 + 1/2 log(2 pi))
    return (log_std + 0.5 + _HALF_LOG_TAU).sum()
