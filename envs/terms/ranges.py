"""Ranges of values that differ between episodes: their check and their draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.validation import require

# The check is needed where settings are read, which loads no torch.
if TYPE_CHECKING:
    from torch import Tensor


def require_conditions(ranges: Any, *, lowest: Mapping[str, float], longest_latency_s: float) -> None:
    """Raise ValueError unless the ranges of `task.randomization` are finite, in order and within limits.

    Args:
        ranges: settings with a range for each key of `lowest`, with `latency_s` and `observation_noise`.
        lowest: least value of each range; minus infinity for a range that may lie anywhere.
        longest_latency_s: largest latency for which the vehicle still remembers the action [s].
    """
    for key, least in lowest.items():
        ends = tuple(getattr(ranges, key))
        ordered = len(ends) == 2 and -math.inf < ends[0] <= ends[1] < math.inf
        require(ordered, f"task.randomization.{key}", list(ends), "give a finite lower and upper end")
        remedy = f"the lower end must be at least {least:g}"
        require(ends[0] >= least, f"task.randomization.{key}", ends[0], remedy)
    longest = ranges.latency_s[1]
    remedy = f"the upper end must be at most {longest_latency_s:g}"
    require(longest <= longest_latency_s, "task.randomization.latency_s", longest, remedy)
    noise = ranges.observation_noise
    # Not `noise < 0`, which a NaN would pass.
    require(noise >= 0, "task.randomization.observation_noise", noise, "must not be negative")


def between(ends: Sequence[float], share: Tensor) -> Tensor:
    """Return values that lie at `share` in [0, 1] of a range."""
    low, high = ends
    return low + (high - low) * share
