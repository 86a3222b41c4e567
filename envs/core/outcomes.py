"""Outcomes: the one way in which an episode ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SUCCESS = "success"
FALL = "fall"
TERMINATED = "terminated"
"""An end that the task gives no other name."""
TIMEOUT = "timeout"
DIVERGED = "diverged"
"""The episode met a value that is not finite or absurdly large."""


def outcome_names(own: tuple[str, ...], *, falls: bool) -> tuple[str, ...]:
    """Return the names that the codes of `info["outcome"]` stand for, in their order.

    Args:
        own: the ends that a task names; without any there are success, and a fall or another terminal state.
        falls: True if a terminal state means that the robot fell.
    """
    if not own:
        own = (SUCCESS, FALL if falls else TERMINATED)
    return (*own, TIMEOUT, DIVERGED)


def outcome_codes(
    names: tuple[str, ...], info: Mapping[str, Any], *, terminated: Tensor, nonfinite: Tensor
) -> Tensor:
    """Return the code of each row's end, valid where an episode ended. Shape: (num_envs,) int64.

    A task may give `outcome`, codes of its own ends for rows that it terminated, and `success`, for rows that
    the time limit ends, or all of them where it names no ends.
    """
    timeout = names.index(TIMEOUT)
    if "outcome" in info:
        codes = info["outcome"].masked_fill(~terminated, timeout)
        may_succeed = ~terminated
    else:
        # Without names of the task's own, its terminal states have the place before the time limit.
        codes = torch.full_like(terminated, timeout, dtype=torch.int64).masked_fill(terminated, timeout - 1)
        may_succeed = torch.ones_like(terminated)
    if SUCCESS in info:
        codes = codes.masked_fill(info[SUCCESS] & may_succeed, names.index(SUCCESS))
    # Last: a step with unsound numbers proves nothing else about its episode.
    return codes.masked_fill(nonfinite, names.index(DIVERGED))


def outcome_counts(codes: Tensor, ended: Tensor, *, num_outcomes: int) -> Tensor:
    """Count the episodes that ended, by outcome. Shapes: (num_envs,), (num_envs,) -> (num_outcomes,)."""
    each = torch.arange(num_outcomes, device=codes.device)
    return ((codes[:, None] == each) & ended[:, None]).sum(0, dtype=torch.float32)


def outcome_shares(
    counts: Mapping[str, float], own: tuple[str, ...], *, successes: bool, falls: bool
) -> dict[str, float]:
    """Return the share of each outcome; they add up to 1.

    Ends that nobody named, such as a divergence, are left out where no episode had them.
    """
    named = {*own, TIMEOUT}
    if successes:
        named.add(SUCCESS)
    if falls:
        named.add(FALL)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items() if count or name in named}
