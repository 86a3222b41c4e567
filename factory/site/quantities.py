"""Uncertain quantities: a typical value and a range, drawn through a standard normal variable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit, ndtr

Z_95 = 1.6448536269514722
"""Standard normal deviate of the 5 and 95 % quantiles, the ends of every range."""
_HALF = 0.5
_LEAST = 1e-9
_MOST = 1e9
"""Ends of all ranges: further out, draws reach numbers that overflow, and no input has such values."""


class Scale(StrEnum):
    """Values that a quantity can have, and the transformation in which it is spread about its middle."""

    POSITIVE = "positive"
    """Above zero; the logarithm is normal on either side."""
    SHARE = "share"
    """Between zero and one; the log odds are normal on either side."""
    ABOVE_ONE = "above one"
    """Above one, like the PUE; the logarithm of the excess is normal on either side."""

    def holds(self, value: float) -> bool:
        """Tell whether a quantity of this scale can have a value."""
        if self is Scale.SHARE:
            return _LEAST <= value <= 1.0 - _LEAST
        if self is Scale.ABOVE_ONE:
            return 1.0 + _LEAST <= value <= _MOST
        return _LEAST <= value <= _MOST

    @property
    def range_text(self) -> str:
        """Values for an error message."""
        return {
            Scale.POSITIVE: "above 0",
            Scale.SHARE: "between 0 and 1",
            Scale.ABOVE_ONE: "above 1",
        }[self]

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values on the real axis."""
        if self is Scale.SHARE:
            return logit(values)
        if self is Scale.ABOVE_ONE:
            return np.log(values - 1.0)
        return np.log(values)

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the inverse of `spread`."""
        if self is Scale.SHARE:
            return expit(values)
        if self is Scale.ABOVE_ONE:
            return 1.0 + np.exp(values)
        return np.exp(values)


class Quantity(Protocol):
    """An input of a projection."""

    @property
    def name(self) -> str:
        """Identifier, unit included where there is one."""

    @property
    def unit(self) -> str:
        """Unit for people; empty for a plain number."""

    @property
    def source(self) -> str:
        """Origin of the range."""

    def at(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values at standard normal deviates, rising."""


@dataclass(frozen=True, kw_only=True)
class Ranged:
    """A quantity with 5 %, 50 % and 95 % quantiles."""

    name: str
    low: float
    typical: float
    high: float
    unit: str
    source: str
    scale: Scale = Scale.POSITIVE

    def at(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values at standard normal deviates: a normal with its own width on either side."""
        if self.low == self.high:
            return np.full_like(z, self.typical)
        # Two half normals that meet at the median: a range need not be symmetric, on whatever scale.
        low, typical, high = self.scale.spread(np.array([self.low, self.typical, self.high]))
        width = np.where(z < 0.0, typical - low, high - typical) / Z_95
        return self.scale.gather(typical + width * z)


@dataclass(frozen=True, kw_only=True)
class CountedShare:
    """A share known from a count: its posterior after k of n, with Jeffreys' prior Beta(1/2, 1/2)."""

    name: str
    hits: int
    trials: int
    source: str
    unit: str = ""

    def at(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the quantiles of Beta(k + 1/2, n - k + 1/2)."""
        misses = self.trials - self.hits
        # The inverse of its distribution function: a deviate means the same quantile as for other inputs.
        return np.asarray(betaincinv(self.hits + _HALF, misses + _HALF, ndtr(z)))


def quantiles(quantity: Quantity) -> tuple[float, float, float]:
    """Return the 5 %, 50 % and 95 % quantiles of an input."""
    low, typical, high = quantity.at(np.array([-Z_95, 0.0, Z_95]))
    return float(low), float(typical), float(high)
