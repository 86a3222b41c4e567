"""Coefficients of the estimate that were fitted to an outside meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from factory.energy.uncertainty import COVERAGE_FACTOR, student_t
from factory.validation import require

_KEY = "energy.estimate.calibration"
_FEWEST_LOADS = 3
"""A line through two loads has no residual, so its fit could not be judged."""
_BEST_METER_U = 0.01
"""A fit is never better than the meter behind it: 1 % is a good wall plug."""
_WORST_U = 0.99


@dataclass(kw_only=True)
class Calibration:
    """Coefficients fitted to an outside meter on the same kind of machine; false while none are given."""

    idle_w_per_core: float = 0.0
    """Power of an allocated hardware thread that does nothing [W]."""
    max_w_per_core: float = 0.0
    """Power of a busy hardware thread [W]."""
    relative_u: float = 0.0
    """Relative standard uncertainty of the power, meter and fit together."""
    origin: str = ""
    """Meter, machine and date of the calibration."""

    def __post_init__(self) -> None:
        """Raise ValueError unless all four values are given and in range, or none is given."""
        if not self:
            return
        check_powers(_KEY, self.idle_w_per_core, self.max_w_per_core)
        require(
            self.max_w_per_core > 0.0, f"{_KEY}.max_w_per_core", self.max_w_per_core, "must be given, and > 0"
        )
        require(
            0.0 < self.relative_u < 1.0, f"{_KEY}.relative_u", self.relative_u, "must be given, in (0, 1)"
        )
        require(bool(self.origin), f"{_KEY}.origin", "''", "say which meter, which machine, when")

    def __bool__(self) -> bool:
        """Tell whether a calibration is given; OmegaConf cannot merge into a value that is None."""
        return any((self.idle_w_per_core, self.max_w_per_core, self.relative_u, self.origin))


def check_powers(key: str, idle_w: float, max_w: float) -> None:
    """Raise ValueError unless `0 <= idle_w <= max_w`."""
    require(
        0.0 <= idle_w <= max_w, f"{key}.idle_w_per_core", idle_w, f"must lie in [0, max_w_per_core={max_w}]"
    )


def fit_calibration(
    busy_cores: Sequence[float], *, power_w: Sequence[float], num_cores: float, origin: str
) -> Calibration:
    """Fit idle and busy power to readings of an outside meter (wall plug, PDU, IPMI) by least squares.

    Args:
        busy_cores: Mean number of busy hardware threads of each reading, at least three different ones. From
            three readings the interval is wide; five are good.
        power_w: Power shown by the outside meter [W], minus the power of anything outside the allocation.
        num_cores: Allocated hardware threads.
        origin: Which meter, which machine, when.

    Raises:
        ValueError: If the readings cannot tell idle from busy.
    """
    count = len(busy_cores)
    num_loads = len(set(busy_cores))
    if count != len(power_w) or num_loads < _FEWEST_LOADS:
        raise ValueError(f"calibration: {count} readings at {num_loads} loads; give 3 or more loads")
    readings = list(zip(busy_cores, power_w, strict=True))

    # The line P = offset + slope * busy through the readings: the offset is the idle power of all cores, the
    # slope what one more busy core adds.
    mean_busy = fmean(busy_cores)
    mean_w = fmean(power_w)
    sum_of_squares = sum((busy - mean_busy) ** 2 for busy in busy_cores)
    sum_of_products = sum((busy - mean_busy) * (power - mean_w) for busy, power in readings)
    slope_w = sum_of_products / sum_of_squares
    offset_w = mean_w - slope_w * mean_busy
    idle_w_per_core = offset_w / num_cores

    # Scatter about the line, with n - 2 degrees of freedom because two coefficients were fitted. From few
    # readings the scatter itself is uncertain: Student's t over the coverage factor makes up for that.
    degrees = count - 2
    residual = sum((power - offset_w - slope_w * busy) ** 2 for busy, power in readings)
    scatter_w = sqrt(residual / degrees)
    relative_u = scatter_w / mean_w * student_t(degrees) / COVERAGE_FACTOR
    return Calibration(
        idle_w_per_core=idle_w_per_core,
        max_w_per_core=idle_w_per_core + slope_w,
        # Below 1 %: a lucky fit; above 99 %: the lower bound would be negative.
        relative_u=min(max(relative_u, _BEST_METER_U), _WORST_U),
        origin=origin,
    )
