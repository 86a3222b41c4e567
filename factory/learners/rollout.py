"""Rollouts, and the advantages computed from them. T = control steps, N = environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from factory.envs.core.soundness import LIMIT, surely_sound


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
    # The last row has no next one, whatever happened in it.
    is_final = rollout.episode_ends
    is_final[-1] = True
    if values.device.type == "cpu":
        # A CPU evaluates these rows alone; picking them on a GPU would wait for the device.
        rows = {name: group[is_final] for name, group in rollout.final_obs.items()}
        next_values[is_final] = value(rows)
    else:
        next_values = torch.where(is_final, value(rollout.final_obs), next_values)
    return values, next_values


@torch.no_grad()
def discard_unsound(rollout: Rollout, values: Tensor, next_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take samples out of learning whose numbers are not finite or absurdly large.

    They are no longer `live`, and their numbers become zeros, because masks are factors: 0 * NaN is NaN.

    Args:
        rollout: changed in place.
        values: of the observations. Shape: (T, N).
        next_values: of the states the steps led to. Shape: (T, N).

    Returns:
        The two values, with zeros for what was taken out, and the number of samples that were. Shape: ().
    """
    # Observations need no term, since the networks pass NaN on.
    numbers = (values, next_values, rollout.rewards, rollout.actions, *rollout.extras.values())
    if values.device.type == "cpu" and surely_sound(*numbers):
        return values, next_values, torch.zeros((), dtype=torch.int64)
    # A sum is NaN or infinite if a term is.
    total = values + next_values + rollout.actions.sum(-1)
    for extra in rollout.extras.values():
        total += extra.view(*total.shape, -1).sum(-1)
    bad = ~((rollout.rewards.abs() <= LIMIT) & total.isfinite())
    count = (bad & rollout.live).sum()
    if bad.device.type == "cpu" and not bad.any():
        return values, next_values, count
    rollout.live.logical_and_(~bad)
    groups = [*_distinct(rollout.obs), *_distinct(rollout.final_obs)]
    for tensor in (rollout.actions, rollout.rewards, *groups, *rollout.extras.values()):
        tensor.masked_fill_(bad.view(*bad.shape, *[1] * (tensor.dim() - 2)), 0)
    return values.masked_fill(bad, 0.0), next_values.masked_fill(bad, 0.0), count


def _distinct(groups: dict[str, Tensor]) -> list[Tensor]:
    """Return the tensors of observation groups, one that groups share only once."""
    return list({id(group): group for group in groups.values()}.values())


def advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    live: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    A terminal state is worth nothing. A time limit is no terminal state: the one-step error is bootstrapped
    with V(final_obs), and the trace is cut, since the next row belongs to another episode. The step before
    one that is not live is bootstrapped with the value of the state it led to.

    Shapes: all (T, N) -> (T, N).
    """
    # delta_t = r_t + gamma V(s_t+1) - V(s_t)
    delta = torch.where(live, rewards + gamma * next_values * ~terminated - values, 0.0)
    # A_t = delta_t + gamma lambda A_t+1, within an episode
    carry = gamma * gae_lambda * (live & ~(terminated | truncated))
    result = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[0])
    # From the end, since every advantage needs that of the next step.
    for t in reversed(range(rewards.shape[0])):
        running = torch.addcmul(delta[t], carry[t], running)
        result[t] = running
    return result
