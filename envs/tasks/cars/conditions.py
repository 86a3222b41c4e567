"""Ranges of values that differ between episodes: their check and their draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from factory.validation import require

# The check is needed where settings are read, which loads no torch.
if TYPE_CHECKING:
    from torch import Tensor


def require_ranges(ranges: Any, keys: Sequence[str]) -> None:
    """Raise ValueError unless the fields `keys` of `task.randomization` are finite pairs in order."""
    for key in keys:
        ends = tuple(getattr(ranges, key))
        ordered = len(ends) == 2 and -math.inf < ends[0] <= ends[1] < math.inf
        require(ordered, f"task.randomization.{key}", list(ends), "give a finite lower and upper end")


def between(ends: Sequence[float], share: Tensor) -> Tensor:
    """Return values that lie at `share` in [0, 1] of a range."""
    low, high = ends
    return low + (high - low) * share
