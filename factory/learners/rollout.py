"""What a collector hands to a learner, and the returns computed from it. T = steps, N = worlds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Rollout:
    """T control steps of N worlds."""

    obs: dict[str, Tensor]
    """Groups `policy` and `critic` before each action. Shape: (T, N, size)."""
    actions: Tensor
    """Shape: (T, N, A); A = 1 for discrete actions, whose index is a whole number."""
    log_probs: Tensor
    """Shape: (T, N)."""
    values: Tensor
    """Values of `obs` in return units. Shape: (T, N)."""
    next_values: Tensor
    """Values of the state each step really led to, V(final_obs) where an episode ended. Shape: (T, N)."""
    rewards: Tensor
    """Shape: (T, N)."""
    terminated: Tensor
    """Shape: (T, N) bool."""
    truncated: Tensor
    """Shape: (T, N) bool."""
    live: Tensor
    """Worlds that executed their action; the others were being reset. Shape: (T, N) bool."""

    @property
    def num_samples(self) -> int:
        """T * N."""
        return self.rewards.numel()


def advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    A terminal state is worth nothing. At a time limit the episode goes on unseen: the one-step error is
    bootstrapped with V(final_obs), and the trace is cut, since the next row belongs to another episode.

    Shapes: all (T, N) -> (T, N).
    """
    delta = rewards + gamma * next_values * ~terminated - values
    carry = gamma * gae_lambda * ~(terminated | truncated)
    result = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[0])
    for t in reversed(range(rewards.shape[0])):
        running = torch.addcmul(delta[t], carry[t], running)
        result[t] = running
    return result
