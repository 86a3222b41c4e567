"""A labelled estimate of CPU and memory energy for machines whose counters cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.energy.sources.base import SourceError
from factory.energy.types import Boundary, Capability, Reading, Tier
from factory.energy.uncertainty import COVERAGE_FACTOR, student_t


@dataclass(kw_only=True)
class Calibration:
    """Coefficients fitted to an outside meter on the same kind of machine; false as long as nothing is given."""

    idle_w_per_core: float = 0.0
    """Power of an allocated hardware thread that does nothing [W]."""
    max_w_per_core: float = 0.0
    """Power of a busy hardware thread [W]."""
    relative_u: float = 0.0
    """Relative standard uncertainty of the power, meter and fit together."""
    origin: str = ""
    """Which meter, which machine, when."""

    def __post_init__(self) -> None:
        """Check the figures: all four are given, or none."""
        if not self:
            return
        key = "energy.estimate.calibration"
        _check_powers(key, self.idle_w_per_core, self.max_w_per_core)
        if self.max_w_per_core == 0.0:
            raise ValueError(f"{key}.max_w_per_core=0.0: must be given, and > 0")
        if not 0.0 < self.relative_u < 1.0:
            raise ValueError(f"{key}.relative_u={self.relative_u}: must be given, in (0, 1)")
        if not self.origin:
            raise ValueError(f"{key}.origin='': say which meter, which machine, when")

    def __bool__(self) -> bool:
        """Tell whether there is one. A null object: OmegaConf cannot merge into a value that is None."""
        return any((self.idle_w_per_core, self.max_w_per_core, self.relative_u, self.origin))


@dataclass(kw_only=True)
class EstimateConfig:
    """Coefficients of the estimate: energy of the cores and the memory this run was given."""

    idle_w_per_core: float = 0.74
    """Power of an idle hardware thread [W]. Origin: Cloud Carbon Footprint, AWS mean of SPECpower_ssj2008."""
    max_w_per_core: float = 3.5
    """Power of a busy hardware thread [W]. Origin: as above."""
    highest_w_per_core: float = 10.0
    """Upper bound for a hardware thread [W]: TDP / host threads if known. Origin: covers desktop parts."""
    ram_w_per_gb: float = 0.375
    """Power of memory [W/GB]. Origin: Green Algorithms (0.3725), Cloud Carbon Footprint (0.392)."""
    calibration: Calibration = field(default_factory=Calibration)
    """Fit to an outside meter (`fit_calibration`): takes the place of the coefficients, raises the tier."""

    def __post_init__(self) -> None:
        """Check the figures."""
        _check_powers("energy.estimate", self.idle_w_per_core, self.max_w_per_core)
        if self.highest_w_per_core < self.max_w_per_core:
            raise ValueError(
                f"energy.estimate.highest_w_per_core={self.highest_w_per_core}: must be >= max_w_per_core"
            )
        if self.ram_w_per_gb < 0.0:
            raise ValueError(f"energy.estimate.ram_w_per_gb={self.ram_w_per_gb}: must be >= 0")


def _check_powers(key: str, idle_w: float, max_w: float) -> None:
    if not 0.0 <= idle_w <= max_w:
        raise ValueError(f"{key}.idle_w_per_core={idle_w}: must lie in [0, max_w_per_core={max_w}]")


class EstimateSource:
    """Linear power of the allocated cores over their CPU time, plus memory by size.

    E_cpu = n * w_idle * t + (w_max - w_idle) * min(cpu_time, n * t), with n the allocated hardware threads,
    not the host's. The bounds lie wide, as published models do: half of idle below, a busy desktop core
    above, memory to a factor of two. With a calibration they are its own k=2 interval, and memory is inside
    its coefficients.
    """

    name = "estimate"
    _MEMORY_FACTOR = 2.0
    _IDLE_FRACTION = 0.5
    _PERIOD_S = 0.004

    def __init__(
        self,
        config: EstimateConfig | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        *,
        cgroup: Cgroup | None = None,
        num_cores: float | None = None,
    ) -> None:
        """Take the coefficients.

        Args:
            config: Coefficients.
            clock_ns: Monotonic clock [ns].
            cgroup: The control group whose CPU time counts; this process's if None.
            num_cores: Allocated hardware threads; asked of the system if None.
        """
        self._config = config or EstimateConfig()
        self._clock_ns = clock_ns
        self._cgroup = cgroup or Cgroup()
        self._num_cores = num_cores or allocated_cores(self._cgroup)

    def open(self) -> Capability:
        """Take the present CPU time as zero."""
        self._t_ns = self._clock_ns()
        self._usage_s = self._cgroup.usage_s()
        self._memory_limit_bytes = self._cgroup.memory_limit_bytes()
        self._cpu_j = self._dram_j = self._lo_j = self._hi_j = self._lost_s = 0.0
        idle_w, max_w = self._coefficients()
        calibration = self._config.calibration
        return Capability(
            source=self.name,
            tier=self._tier,
            boundary=Boundary.ALLOCATION,
            components=("cpu",) if calibration else ("cpu", "dram"),
            period_s=self._PERIOD_S,
            poll_s=None,
            keys=("allocation",),
            details=(
                f"{self._num_cores:g} allocated hardware threads at {idle_w:g} W idle to {max_w:g} W busy",
                f"CPU time from {self._cgroup.usage_origin}",
                f"coefficients: {calibration.origin if calibration else 'published means, not this machine'}",
            ),
        )

    def read(self) -> Reading:
        """Add the energy since the last read, and its bounds."""
        t_ns = self._clock_ns()
        try:
            usage_s = self._cgroup.usage_s()
        except (OSError, ValueError) as error:
            raise SourceError(f"CPU time not readable: {error}") from error
        elapsed_s, busy_s = (t_ns - self._t_ns) * 1e-9, usage_s - self._usage_s
        self._t_ns, self._usage_s = t_ns, usage_s
        if busy_s < 0.0:
            self._lost_s += elapsed_s
        else:
            self._add(elapsed_s, busy_s)
        components_j = {"cpu": self._cpu_j}
        if not self._config.calibration:
            components_j["dram"] = self._dram_j
        return Reading(t_ns, self.name, self._tier, components_j, self._lo_j, self._hi_j, self._lost_s)

    def close(self) -> None:
        """Hold nothing open."""

    @property
    def _tier(self) -> Tier:
        return Tier.CALIBRATED if self._config.calibration else Tier.ESTIMATED

    def _coefficients(self) -> tuple[float, float]:
        chosen = self._config.calibration or self._config
        return chosen.idle_w_per_core, chosen.max_w_per_core

    def _add(self, elapsed_s: float, busy_s: float) -> None:
        idle_w, max_w = self._coefficients()
        core_s = self._num_cores * elapsed_s
        cpu_j = idle_w * core_s + (max_w - idle_w) * min(busy_s, core_s)
        self._cpu_j += cpu_j
        if self._config.calibration:
            spread = COVERAGE_FACTOR * self._config.calibration.relative_u
            self._lo_j += max(0.0, 1.0 - spread) * cpu_j
            self._hi_j += (1.0 + spread) * cpu_j
            return
        ram_bytes = self._memory_limit_bytes or self._cgroup.resident_bytes()
        dram_j = ram_bytes * 1e-9 * self._config.ram_w_per_gb * elapsed_s
        self._dram_j += dram_j
        self._lo_j += self._IDLE_FRACTION * idle_w * core_s + dram_j / self._MEMORY_FACTOR
        self._hi_j += self._config.highest_w_per_core * core_s + dram_j * self._MEMORY_FACTOR


def fit_calibration(
    busy_cores: Sequence[float], *, power_w: Sequence[float], num_cores: float, origin: str
) -> Calibration:
    """Fit idle and busy power to readings of an outside meter (wall plug, PDU, IPMI) by least squares.

    Args:
        busy_cores: Mean number of busy hardware threads of each reading, at least three different ones; from three
            readings the interval is wide, five are good.
        power_w: Power the outside meter showed [W], less what does not belong to the allocation.
        num_cores: Allocated hardware threads.
        origin: Which meter, which machine, when.

    Raises:
        ValueError: If the readings cannot tell idle from busy.
    """
    count = len(busy_cores)
    if count != len(power_w) or len(set(busy_cores)) < 3:
        raise ValueError(
            f"calibration: {count} readings at {len(set(busy_cores))} loads; give 3 or more loads"
        )
    mean_x, mean_y = sum(busy_cores) / count, sum(power_w) / count
    variance = sum((x - mean_x) ** 2 for x in busy_cores)
    slope_w = sum((x - mean_x) * (y - mean_y) for x, y in zip(busy_cores, power_w, strict=True)) / variance
    offset_w = mean_y - slope_w * mean_x
    residual = sum((y - offset_w - slope_w * x) ** 2 for x, y in zip(busy_cores, power_w, strict=True))
    # From few readings the scatter itself is uncertain: Student's t over the coverage factor makes up for it.
    relative_u = sqrt(residual / (count - 2)) / mean_y * student_t(count - 2) / COVERAGE_FACTOR
    idle_w = offset_w / num_cores
    # A fit is never better than the meter behind it: 1 % is a good wall plug.
    return Calibration(
        idle_w_per_core=idle_w,
        max_w_per_core=idle_w + slope_w,
        relative_u=min(max(relative_u, 0.01), 0.99),
        origin=origin,
    )
