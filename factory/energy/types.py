"""Vocabulary of the energy accounts: phase, component, tier, boundary, interval, reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

# Checkpoints hold one value for each phase in this order, then the unattributed rest.
PHASES: tuple[str, ...] = ("startup", "sim", "infer", "learn", "eval", "checkpoint", "io", "idle")
COMPONENTS: tuple[str, ...] = ("cpu", "gpu", "dram")
"""Components that every metered run reports, 0 J where a run has none; a source may add others."""
RESERVED_COMPONENTS: tuple[str, ...] = ("total", "unattributed")
"""Names that `energy/<name>_j` already uses for sums."""


class Tier(StrEnum):
    """Origin of an energy value, the most trustworthy first."""

    MEASURED = "measured"
    """A hardware energy counter of a device that this run has to itself."""
    SAMPLED = "sampled"
    """Hardware power readings, integrated over time."""
    APPORTIONED = "apportioned"
    """A share of a counter's joules, split by time."""
    SHARED = "shared"
    """A hardware counter of a device that others use too: this run's share by CPU time where that is known,
    else all of it; only an upper bound is certain.
    """
    CALIBRATED = "calibrated"
    """A model whose coefficients were fitted to an outside meter on the same machine."""
    ESTIMATED = "estimated"
    """A model with published coefficients, or a count with a gap in it."""
    REPLAYED = "replayed"
    """A recording of another run."""
    NONE = "none"
    """Nothing was metered; joules are NaN, never zero."""

    @property
    def rank(self) -> int:
        """Return the place in the order of trust, 0 the best."""
        return _TIER_ORDER.index(self)

    @staticmethod
    def worst(tiers: Iterable[Tier]) -> Tier:
        """Return the least trustworthy tier, `NONE` for an empty collection."""
        return max(tiers, key=lambda tier: tier.rank, default=Tier.NONE)


# The enum lists its members from best to worst, so the position is the rank.
_TIER_ORDER = list(Tier)


class Boundary(StrEnum):
    """Hardware that an energy value covers, from the chip outwards."""

    DEVICE = "device"
    """The GPU board."""
    PACKAGE = "package"
    """The CPU packages without their memory."""
    PACKAGE_DRAM = "package+dram"
    """The CPU packages and their memory."""
    ALLOCATION = "allocation"
    """The cores and the memory this run was given, wherever they are."""
    PROCESS = "process"
    """The work of this run's processes, and the idle power of the cores that they may use."""
    NODE = "node"
    """The whole machine at its power supply, e.g. a wall plug."""

    @staticmethod
    def join(boundaries: Iterable[str]) -> str:
        """Name the union of several boundaries, e.g. `device+package+dram`."""
        # Sorted, so that the same hardware has the same name in every run.
        return "+".join(sorted(set(boundaries))) or "none"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with bounds, `lo <= value <= hi`; about 95 % (k = 2) where it comes from a counter."""

    value: float
    lo: float
    hi: float

    @classmethod
    def around(cls, value: float, *, half_width: float) -> Interval:
        """Return `value +- half_width`, cut off at zero because energy cannot be negative."""
        return cls(value, max(0.0, value - half_width), value + half_width)

    def __contains__(self, truth: float) -> bool:
        """Tell whether the bounds hold `truth`."""
        return self.lo <= truth <= self.hi

    def __add__(self, other: Interval) -> Interval:
        """Add bound to bound: the errors of sources of one machine may be fully correlated."""
        return Interval(self.value + other.value, self.lo + other.lo, self.hi + other.hi)

    def map(self, function: Callable[[float], float]) -> Interval:
        """Propagate the interval through a monotone function, rising or falling.

        Example: `energy.map(lambda energy_j: joules_per_token(energy_j, tokens=count))`.
        """
        # A falling function, such as tokens per joule, swaps the two ends.
        ends = sorted((function(self.lo), function(self.hi)))
        return Interval(function(self.value), ends[0], ends[1])


@dataclass(frozen=True, slots=True)
class Capability:
    """Abilities that a source found when it was opened."""

    source: str
    """Name of the source, e.g. `rapl`."""
    tier: Tier
    """Best tier its readings can have."""
    boundary: Boundary
    components: tuple[str, ...]
    """Components it reports separately, e.g. `cpu` and `dram`."""
    period_s: float
    """Update period of the counter behind it [s]."""
    poll_s: float | None
    """Longest time between two reads that loses nothing [s]; None if any is fine."""
    keys: tuple[str, ...]
    """Identity of each counter (device UUID, zone), so that none is counted twice."""
    details: tuple[str, ...] = ()
    """Remarks for the user: what is included, what is left out."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative energy of one source since it was opened."""

    t_ns: int
    """Time of the reading on the source's clock [ns]."""
    source: str
    tier: Tier
    """Worst tier of anything inside the sum."""
    components_j: dict[str, float]
    """Cumulative energy of each component [J]; never decreases."""
    lo_j: float
    hi_j: float
    lost_s: float = 0.0
    """Time whose energy is missing from the sum [s]."""
    is_shared: bool = False
    """True once others were seen to use the same hardware: the sum is a claim, and its bounds say so."""
    idle_j: float = 0.0
    """Part of the sum that would be used without any work [J]; 0 if the source cannot tell."""

    @property
    def cumulative_j(self) -> float:
        """Return the cumulative energy of all components [J]."""
        return sum(self.components_j.values())

    @property
    def interval(self) -> Interval:
        """Return the cumulative energy with its bounds [J]."""
        return Interval(self.cumulative_j, self.lo_j, self.hi_j)


def component_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the joules of each component from a run's metrics: the keys `energy/<component>_j`."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        # `energy/phase/<name>_j` has a second slash and is a split by time, not a component.
        name = key.removeprefix("energy/").removesuffix("_j")
        is_component = key == f"energy/{name}_j" and "/" not in name
        if is_component and name not in RESERVED_COMPONENTS:
            found[name] = value
    return found
