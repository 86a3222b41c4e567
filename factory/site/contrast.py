"""Two projections side by side, draw by draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.site.model import OUTPUTS
from factory.site.projection import DISCLAIMER, Projection, quantiles_of


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The second projection against the first.

    Both see the same draws: an input is at the same quantile in both, so the ratio shows what tells them
    apart.
    """

    first: Projection
    second: Projection
    names: tuple[str, str]
    ratios: dict[str, list[float]]
    """5, 50 and 95 % quantiles of second over first, by output."""
    higher: dict[str, float]
    """Share of the draws in which the second has more of an output."""

    def as_plain(self) -> dict[str, Any]:
        """Return plain containers for JSON."""
        return {
            "notice": f"{DISCLAIMER}.",
            "names": list(self.names),
            "first": self.first.as_plain(),
            "second": self.second.as_plain(),
            "second_over_first": self.ratios,
            "second_is_higher": self.higher,
        }


def compare(first: Projection, second: Projection) -> Contrast:
    """Return two projections with the quantiles of their ratios."""
    ratios: dict[str, list[float]] = {}
    higher: dict[str, float] = {}
    for output in OUTPUTS:
        # Row i of both is the same draw, so the ratio has none of the spread that both share.
        before = first.outputs[output.name]
        after = second.outputs[output.name]
        with np.errstate(invalid="ignore", divide="ignore"):
            # Two paybacks that never come are equal, and so are two sites that make nothing.
            ratio = np.where(before == after, 1.0, after / before)
        ratios[output.name] = quantiles_of(ratio)
        higher[output.name] = float((after > before).mean())
    return Contrast(first=first, second=second, names=_names(first, second), ratios=ratios, higher=higher)


def _names(first: Projection, second: Projection) -> tuple[str, str]:
    """Return the names of two projections: their sites, or their workloads if the site is the same."""
    if first.site.name != second.site.name:
        return first.site.name, second.site.name
    return f"from {first.workload.origin}", f"from {second.workload.origin}"
