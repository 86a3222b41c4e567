"""Diagonal Gaussian over actions. A = number of action dimensions."""

from __future__ import annotations

import math

from torch import Tensor

_HALF_LOG_TAU = 0.5 * math.log(math.tau)


def log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density summed over action dimensions. Shapes: (..., A), (..., A), (A,) -> (...,)."""
    z = (action - mean) * (-log_std).exp()
    return -0.5 * z.square().sum(-1) - log_std.sum() - action.shape[-1] * _HALF_LOG_TAU


def entropy(log_std: Tensor) -> Tensor:
    """Return the differential entropy [nat]. Shape: (A,) -> ()."""
    return (log_std + 0.5 + _HALF_LOG_TAU).sum()
