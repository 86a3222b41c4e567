"""Score of a suite: shares and means over all episodes, with 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from factory.energy.types import Interval
from factory.energy.uncertainty import NORMAL_95
from factory.intervals import wilson

Bounds = tuple[float, float, float]
"""Lower end, estimate and upper end of a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Result of a suite, as `out=FILE.json` holds it."""

    suite: str
    table_sha256: str
    split: str
    episodes: int
    seed: int
    """Seed of the noise and of everything else that the table does not fix."""
    outcomes: dict[str, float]
    """Share of each outcome; they add up to 1."""
    metrics: dict[str, Bounds]
    """Shares with Wilson's interval, and means over all episodes, whatever their outcome."""
    kinds: dict[str, dict[str, Bounds]]
    """The shares for each kind of episode."""
    policy: dict[str, Any]
    """Origin of the policy: run, task and env steps, or a baseline with its options."""
    commit: str

    def plain(self) -> dict[str, Any]:
        """Return plain containers for JSON."""
        return asdict(self)


def shares(
    outcome: Tensor, names: tuple[str, ...], combined: dict[str, tuple[str, ...]]
) -> dict[str, Bounds]:
    """Return the share of each outcome and of each sum of outcomes.

    Args:
        outcome: index of each episode's outcome in `names`. Shape: (E,).
        names: the outcomes.
        combined: sums of outcomes by name.
    """
    parts = {name: (name,) for name in names} | combined
    found = {}
    for key, members in parts.items():
        codes = torch.tensor([names.index(member) for member in members])
        # In float64, so that the shares of all outcomes add up to 1.
        share = float(torch.isin(outcome, codes).double().mean())
        found[key] = _bounds(wilson(share, outcome.numel()))
    return found


def mean(values: Tensor) -> Bounds:
    """Return the mean of the values that are numbers, and its normal interval. Shape: (E,)."""
    known = values[~values.isnan()].double()
    if known.numel() == 0:
        return (math.nan, math.nan, math.nan)
    center = float(known.mean())
    half_width = 0.0
    if known.numel() > 1:
        half_width = NORMAL_95 * float(known.std(correction=1)) / math.sqrt(known.numel())
    return (center - half_width, center, center + half_width)


def quantile(values: Tensor, share: float) -> Bounds:
    """Return a quantile and its interval, between the values whose ranks it has with 95 %. Shape: (E,)."""
    ordered = values[~values.isnan()].double().sort().values
    count = ordered.numel()
    if count == 0:
        return (math.nan, math.nan, math.nan)
    # The number of values below the true quantile is binomial.
    spread = NORMAL_95 * math.sqrt(share * (1.0 - share) / count)
    ends = (max(0.0, share - spread), share, min(1.0, share + spread))
    low, center, high = (float(torch.quantile(ordered, end)) for end in ends)
    return (low, center, high)


def _bounds(interval: Interval) -> Bounds:
    return (interval.lo, interval.value, interval.hi)
