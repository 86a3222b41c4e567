"""Categorical distribution over n choices. Features are logits."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.policies.distribution import Distribution
from factory.runtime import distributed


class Categorical(Distribution):
    """One of `num_features` choices.

    An action is an index, kept by rollouts as a column of floats (A = 1).
    """

    kind = "categorical"

    def __init__(self, num_choices: int) -> None:
        super().__init__()
        self.num_features = num_choices

    def sample(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return indices. Shape: (..., n) -> (...,) int64.

        The largest of logits plus Gumbel noise is a draw from their softmax (Gumbel 1954; Maddison et al.
        2014, arXiv:1411.0030).
        """

        def sample(shape: tuple[int, ...]) -> Tensor:
            return features.new_empty(shape).exponential_(generator=generator)

        # Every process draws for all worlds and keeps its own rows, so the noise does not depend on how the
        # worlds are shared out. If E is exponential, -log E has a Gumbel distribution.
        noise = distributed.shard().draw(sample, *features.shape)
        return (features - noise.log()).argmax(-1)

    def mode(self, features: Tensor) -> Tensor:
        """Return the most probable indices. Shape: (..., n) -> (...,) int64."""
        return features.argmax(-1)

    def log_prob(self, features: Tensor, action: Tensor) -> Tensor:
        """Return log-probabilities. Shapes: (..., n), (..., 1) -> (...,)."""
        # Rollouts keep indices as floats, which are exact up to 2^24.
        return features.log_softmax(-1).gather(-1, action.long()).squeeze(-1)

    def entropy(self, features: Tensor) -> Tensor:
        """Return the entropy [nat]. Shape: (..., n) -> (...,)."""
        # H = -sum_k p_k log p_k
        log_prob = features.log_softmax(-1)
        return -(log_prob.exp() * log_prob).sum(-1)
