"""A labelled estimate of CPU and memory energy for machines whose counters cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.energy.sources.base import EnergySource, SourceError
from factory.energy.sources.calibration import Calibration, check_powers
from factory.energy.types import Boundary, Capability, Reading, Tier
from factory.energy.uncertainty import COVERAGE_FACTOR
from factory.validation import require

if TYPE_CHECKING:
    from factory.energy.config import EnergyConfig

_PERIOD_S = 0.004
"""Scheduler tick at 250 Hz, at which the kernel updates the CPU time."""
_IDLE_FRACTION = 0.5
"""Lower bound of the idle power, as a part of the published mean."""
_MEMORY_FACTOR = 2.0
"""Published powers of memory differ by about this factor in both directions."""


@dataclass(kw_only=True)
class EstimateConfig:
    """Coefficients of the estimate, for the cores and the memory that this run was given."""

    idle_w_per_core: float = 0.74
    """Power of an idle hardware thread [W]. Origin: Cloud Carbon Footprint, AWS mean of SPECpower_ssj2008."""
    max_w_per_core: float = 3.5
    """Power of a busy hardware thread [W]. Origin: as above."""
    highest_w_per_core: float = 10.0
    """Upper bound for a hardware thread [W]: TDP / host threads if known. Origin: covers desktop parts."""
    ram_w_per_gb: float = 0.375
    """Power of memory [W/GB]. Origin: Green Algorithms (0.3725), Cloud Carbon Footprint (0.392)."""
    calibration: Calibration = field(default_factory=Calibration)
    """Fit to an outside meter (`fit_calibration`): replaces the coefficients and improves the tier."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        key = "energy.estimate"
        check_powers(key, self.idle_w_per_core, self.max_w_per_core)
        require(
            self.highest_w_per_core >= self.max_w_per_core,
            f"{key}.highest_w_per_core",
            self.highest_w_per_core,
            "must be >= max_w_per_core",
        )
        require(self.ram_w_per_gb >= 0.0, f"{key}.ram_w_per_gb", self.ram_w_per_gb, "must be >= 0")


class EstimateSource(EnergySource):
    """Linear power of the allocated cores over their CPU time, plus memory by size.

    E_cpu = n * w_idle * t + (w_max - w_idle) * min(cpu_time, n * t), with n the allocated hardware threads,
    not the host's. The bounds are as wide as published models differ: half of idle below, a busy desktop
    core above, memory to a factor of two. With a calibration they are its own k = 2 interval, and memory is
    inside its coefficients.
    """

    name = "estimate"
    title = "estimate"
    components = ("cpu", "dram")

    def __init__(
        self,
        config: EstimateConfig | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        *,
        cgroup: Cgroup | None = None,
        num_cores: float | None = None,
    ) -> None:
        """Keep the coefficients.

        Args:
            config: Coefficients.
            clock_ns: Monotonic clock [ns].
            cgroup: The control group whose CPU time counts; this process's if None.
            num_cores: Allocated hardware threads; those of this process if None.
        """
        self._config = config or EstimateConfig()
        self._clock_ns = clock_ns
        self._cgroup = cgroup or Cgroup()
        self._num_cores = num_cores or allocated_cores(self._cgroup)
        # A fit on this kind of machine replaces the published coefficients and improves the tier.
        calibration = self._config.calibration
        self._is_calibrated = bool(calibration)
        self._tier = Tier.ESTIMATED
        self._idle_w = self._config.idle_w_per_core
        self._max_w = self._config.max_w_per_core
        if self._is_calibrated:
            self._tier = Tier.CALIBRATED
            self._idle_w = calibration.idle_w_per_core
            self._max_w = calibration.max_w_per_core

    @classmethod
    def from_config(cls, cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Self:
        """Estimate the cores and the memory of this process, wherever the policy runs."""
        return cls(cfg.estimate)

    def open(self) -> Capability:
        """Take the present CPU time as zero."""
        self._t_ns = self._clock_ns()
        self._usage_s = self._cgroup.usage_s()
        self._memory_limit_bytes = self._cgroup.memory_limit_bytes()
        self._cpu_j = 0.0
        self._dram_j = 0.0
        self._lo_j = 0.0
        self._hi_j = 0.0
        self._idle_j = 0.0
        self._lost_s = 0.0
        components: tuple[str, ...] = ("cpu", "dram")
        model = "CPU and memory energy are estimated from CPU time and memory size, with wide bounds"
        origin = "published means, not this machine"
        if self._is_calibrated:
            # The outside meter saw the memory too, so its power is already inside the coefficients.
            components = ("cpu",)
            model = "energy follows from CPU time, by a fit to an outside meter"
            origin = self._config.calibration.origin
        return Capability(
            source=self.name,
            tier=self._tier,
            boundary=Boundary.ALLOCATION,
            components=components,
            # CPU time moves in scheduler ticks; it is cumulative, so no read is ever too late.
            period_s=_PERIOD_S,
            poll_s=None,
            keys=("allocation",),
            details=(
                model,
                f"{self._num_cores:g} allocated hardware threads at {self._idle_w:g} W idle to "
                f"{self._max_w:g} W busy",
                f"CPU time from {self._cgroup.usage_origin}",
                f"coefficients: {origin}",
            ),
        )

    def read(self) -> Reading:
        """Add the energy since the last read, and its bounds."""
        t_ns = self._clock_ns()
        try:
            usage_s = self._cgroup.usage_s()
        except (OSError, ValueError) as error:
            raise SourceError(f"CPU time not readable: {error}") from error
        elapsed_s = (t_ns - self._t_ns) * 1e-9
        busy_s = usage_s - self._usage_s
        self._t_ns = t_ns
        self._usage_s = usage_s
        # CPU time can only decrease if the process was moved to another control group.
        if busy_s < 0.0:
            self._lost_s += elapsed_s
        else:
            self._add(elapsed_s, busy_s)
        components_j = {"cpu": self._cpu_j}
        if not self._is_calibrated:
            components_j["dram"] = self._dram_j
        return Reading(
            t_ns=t_ns,
            source=self.name,
            tier=self._tier,
            components_j=components_j,
            lo_j=self._lo_j,
            hi_j=self._hi_j,
            lost_s=self._lost_s,
            idle_j=self._idle_j,
        )

    def _add(self, elapsed_s: float, busy_s: float) -> None:
        """Add the energy of an interval of time.

        Args:
            elapsed_s: Length of the interval [s].
            busy_s: CPU time used in the interval [s].
        """
        # E_cpu = n * w_idle * t + (w_max - w_idle) * min(cpu_time, n * t)
        core_s = self._num_cores * elapsed_s
        idle_j = self._idle_w * core_s
        cpu_j = idle_j + (self._max_w - self._idle_w) * min(busy_s, core_s)
        self._cpu_j += cpu_j
        self._idle_j += idle_j
        if self._is_calibrated:
            # E * (1 -+ k u), with u the relative standard uncertainty of the fit.
            spread = COVERAGE_FACTOR * self._config.calibration.relative_u
            self._lo_j += max(0.0, 1.0 - spread) * cpu_j
            self._hi_j += (1.0 + spread) * cpu_j
            return

        # E_dram = m * p * t, with m in GB (1e9 byte) as in the published powers.
        # A memory limit is what the run reserved for itself; without one, count what it holds.
        ram_bytes = self._memory_limit_bytes or self._cgroup.resident_bytes()
        dram_j = ram_bytes * 1e-9 * self._config.ram_w_per_gb * elapsed_s
        self._dram_j += dram_j
        # Memory draws its power by its size, whoever uses it.
        self._idle_j += dram_j

        # The bounds ignore the CPU time: how busy the cores were says little about an unknown processor.
        self._lo_j += _IDLE_FRACTION * self._idle_w * core_s + dram_j / _MEMORY_FACTOR
        self._hi_j += self._config.highest_w_per_core * core_s + dram_j * _MEMORY_FACTOR
