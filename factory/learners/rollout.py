"""Rollouts, and the advantages computed from them. T = control steps, N = environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Rollout:
    """T control steps of N environments, as any learner can use them."""

    obs: dict[str, Tensor]
    """Groups `policy` and `critic` before each action. Shape: (T, N, size)."""
    final_obs: dict[str, Tensor]
    """Observations each step led to, before a reset: valid where an episode ended and in the last row.

    Elsewhere the next row of `obs` is the same. Shape: (T, N, size).
    """
    actions: Tensor
    """Shape: (T, N, A); A = 1 for discrete actions, stored as the index in a float."""
    rewards: Tensor
    """Shape: (T, N)."""
    terminated: Tensor
    """Shape: (T, N) bool."""
    truncated: Tensor
    """Shape: (T, N) bool."""
    live: Tensor
    """True where the action was executed, false where the environment was being reset. Shape: (T, N) bool."""
    initial_state: Tensor
    """State of the policy before the first step. Shape: (N, state_size)."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """Whatever else the policy returned with its actions, such as `log_prob`. Shape: (T, N, ...)."""

    @property
    def num_samples(self) -> int:
        """T * N."""
        return self.rewards.numel()

    @property
    def episode_ends(self) -> Tensor:
        """Steps that ended an episode. Shape: (T, N) bool."""
        return self.terminated | self.truncated

    @property
    def episode_starts(self) -> Tensor:
        """Steps before which the state of the policy restarted; in the first row it already has.

        Shape: (T, N).
        """
        starts = torch.zeros_like(self.terminated)
        # A step that only reset the environment executed no action, so the state restarts after it as well.
        starts[1:] = (self.episode_ends | ~self.live)[:-1]
        return starts


@torch.no_grad()
def bootstrap_values(rollout: Rollout, value: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the value of every observation and of the state every step led to.

    Within an episode the second is the first of the next row. Where an episode ended, and in the last row,
    the critic is asked about the final observation.

    Args:
        rollout: T steps of N environments.
        value: critic, observation groups (..., size) -> (...,).

    Returns:
        Two tensors (T, N).
    """
    values = value(rollout.obs)
    next_values = torch.empty_like(values)
    next_values[:-1] = values[1:]
    is_final = rollout.episode_ends
    is_final[-1] = True
    if values.device.type == "cpu":
        # A CPU evaluates these rows alone; picking them on a GPU would wait for the device.
        rows = {name: group[is_final] for name, group in rollout.final_obs.items()}
        next_values[is_final] = value(rows)
    else:
        next_values = torch.where(is_final, value(rollout.final_obs), next_values)
    return values, next_values


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

    A terminal state is worth nothing. A time limit is no terminal state: the one-step error is bootstrapped
    with V(final_obs), and the trace is cut, since the next row belongs to another episode.

    Shapes: all (T, N) -> (T, N).
    """
    # delta_t = r_t + gamma V(s_t+1) - V(s_t)
    delta = rewards + gamma * next_values * ~terminated - values
    # A_t = delta_t + gamma lambda A_t+1, within an episode
    carry = gamma * gae_lambda * ~(terminated | truncated)
    result = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[0])
    for t in reversed(range(rewards.shape[0])):
        running = torch.addcmul(delta[t], carry[t], running)
        result[t] = running
    return result
