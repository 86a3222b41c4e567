"""Sound values: finite, and of a size that something real can have."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LIMIT = 1e10
"""Largest sound magnitude; beyond it, MuJoCo calls a state bad as well (`mjMAXVAL`)."""
_SURELY = LIMIT / 1e3
"""Bound on the Euclidean norm of all values of a batch; see `surely_sound`."""


def surely_sound(*values: Tensor) -> bool:
    """Return True only if `unsound` holds of no world, for a fraction of its cost; False says nothing.

    It waits for the device, and is therefore for tensors on the CPU.
    """
    total = 0.0
    for value in values:
        flat = value.reshape(-1)
        total += torch.dot(flat, flat).item()
    # |x_1 + ... + x_n| <= sqrt(n) |x|: up to a million numbers of a world add up to less than LIMIT. A sum of
    # squares is NaN or infinite if a value is, and NaN compares as false.
    return total <= _SURELY**2


def unsound(*values: Tensor) -> Tensor:
    """Return where a value is not finite, or absurdly large.

    Shapes: (num_envs,) or (num_envs, size) each -> (num_envs,) bool.
    """
    # A sum is NaN or infinite if a term is, and costs a fraction of checking every term.
    total = sum(value.sum(-1) if value.dim() > 1 else value for value in values)
    # NaN compares as false, so this must not be turned into `total.abs() > LIMIT`.
    return ~(torch.as_tensor(total).abs() <= LIMIT)


def blank(bad: Tensor, value: Tensor) -> Tensor:
    """Return `value` with zeros for the worlds in `bad`. Shapes: (num_envs,), (num_envs, ...)."""
    return value.masked_fill(bad.view(-1, *[1] * (value.dim() - 1)), 0)


def blank_step(
    bad: Tensor, obs: dict[str, Tensor], reward: Tensor, info: dict[str, Any]
) -> tuple[dict[str, Tensor], Tensor, dict[str, Any]]:
    """Return observation groups, reward and info of a step with zeros for the worlds in `bad` (num_envs,).

    The true observations and rewards are `info["raw"]`.
    """
    blanked = {"raw": {"reward": reward, "obs": obs}, "reward_terms": blank(bad, info["reward_terms"])}
    if "diagnostics" in info:
        blanked["diagnostics"] = {name: blank(bad, value) for name, value in info["diagnostics"].items()}
    if "episode_metrics" in info:
        # Such an episode says nothing; a mean leaves NaN out.
        blanked["episode_metrics"] = {
            name: value.masked_fill(bad, math.nan) for name, value in info["episode_metrics"].items()
        }
    groups = {name: blank(bad, group) for name, group in obs.items()}
    return groups, blank(bad, reward), info | blanked
