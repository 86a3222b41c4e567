"""Words of the energy accounts: tier, boundary, interval, reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

PHASES: tuple[str, ...] = ("startup", "sim", "infer", "learn", "eval", "checkpoint", "io", "idle")
COMPONENTS: tuple[str, ...] = ("cpu", "gpu", "dram")


class Tier(StrEnum):
    """Where a joule figure comes from, the most trustworthy first."""

    MEASURED = "measured"
    """A hardware energy counter of a device that this run has to itself."""
    SAMPLED = "sampled"
    """Hardware power readings, integrated over time."""
    APPORTIONED = "apportioned"
    """A share of a counter's joules, split by time."""
    SHARED = "shared"
    """A hardware counter of a device that others use too: an upper bound for this run."""
    CALIBRATED = "calibrated"
    """A model whose coefficients were fitted to an outside meter on the same machine."""
    ESTIMATED = "estimated"
    """A model with published coefficients, or a count with a hole in it."""
    REPLAYED = "replayed"
    """A recording of another run."""
    SIMULATED = "simulated"
    """A made-up device."""
    NONE = "none"
    """Nothing was metered; joules are NaN, never zero."""

    @property
    def rank(self) -> int:
        """Return the place in the order of trust, 0 the best."""
        return _TIER_ORDER.index(self)

    @staticmethod
    def worst(tiers: Iterable[Tier]) -> Tier:
        """Return the least trustworthy tier, `NONE` of nothing."""
        return max(tiers, key=lambda tier: tier.rank, default=Tier.NONE)


_TIER_ORDER = list(Tier)


class Boundary(StrEnum):
    """What a joule figure encloses, from the chip outwards."""

    DEVICE = "device"
    """The GPU board."""
    PACKAGE = "package"
    """The CPU packages without their memory."""
    PACKAGE_DRAM = "package+dram"
    """The CPU packages and their memory."""
    ALLOCATION = "allocation"
    """The cores and the memory this run was given, wherever they are."""
    NODE = "node"
    """The whole machine at its power supply."""
    FACILITY = "facility"
    """The node with its share of cooling and distribution (PUE)."""

    @staticmethod
    def join(boundaries: Iterable[str]) -> str:
        """Name the union of what several sources enclose, e.g. `device+package+dram`."""
        return "+".join(sorted(set(boundaries))) or "none"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with bounds, `lo <= value <= hi`, about 95 % (k=2) where it comes from a counter."""

    value: float
    lo: float
    hi: float

    @classmethod
    def around(cls, value: float, *, half_width: float) -> Interval:
        """Return `value +- half_width`, cut at zero from below as energy cannot be negative."""
        return cls(value, max(0.0, value - half_width), value + half_width)

    def __contains__(self, truth: float) -> bool:
        """Tell whether the bounds hold `truth`."""
        return self.lo <= truth <= self.hi

    def __add__(self, other: Interval) -> Interval:
        """Add bound to bound: errors of gauges of one machine may be fully correlated."""
        return Interval(self.value + other.value, self.lo + other.lo, self.hi + other.hi)

    def map(self, figure: Callable[[float], float]) -> Interval:
        """Propagate through a monotone `figure`, rising or falling.

        Example: `energy.map(lambda energy_j: joules_per_token(energy_j, tokens=count))`.
        """
        ends = sorted((figure(self.lo), figure(self.hi)))
        return Interval(figure(self.value), ends[0], ends[1])


@dataclass(frozen=True, slots=True)
class Capability:
    """What a source turned out to be able to do when it was opened."""

    source: str
    """Name of the source, e.g. `rapl`."""
    tier: Tier
    """Best tier its readings can have."""
    boundary: Boundary
    components: tuple[str, ...]
    """Which of `cpu`, `gpu`, `dram` it tells apart."""
    period_s: float
    """Update period of the counter behind it [s]."""
    poll_s: float | None
    """Longest time between two reads that loses nothing [s]; None if any is fine."""
    keys: tuple[str, ...]
    """Identity of each counter (device UUID, zone), for counting none twice."""
    details: tuple[str, ...] = ()
    """What is included and left out, in plain words."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative energy of one source since it was opened."""

    t_ns: int
    """Time of the reading on the source's clock [ns]."""
    source: str
    tier: Tier
    """Worst tier of anything inside the sum."""
    components_j: dict[str, float]
    """Cumulative energy of each component [J]; rises only."""
    lo_j: float
    hi_j: float
    lost_s: float = 0.0
    """Time whose energy is missing from the sum [s]."""

    @property
    def cumulative_j(self) -> float:
        """Return the cumulative energy of all components [J]."""
        return sum(self.components_j.values())

    @property
    def interval(self) -> Interval:
        """Return the cumulative energy with its bounds [J]."""
        return Interval(self.cumulative_j, self.lo_j, self.hi_j)
