"""A labelled estimate of CPU and memory energy for machines whose counters cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.energy.claim import Claim, CoreSeconds, Scope, run_tree
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

    E_cpu = w_max * busy + w_idle * idle, in core-seconds of the allocated hardware threads, not the host's;
    `Claim` tells which of them are this run's. The bounds are as wide as published models differ: half of
    idle below, a busy desktop core above, memory to a factor of two. With a calibration they are its own
    k = 2 interval, and memory is inside its coefficients. Beside others the upper bound is everybody's.
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
        own_cpu_s: Callable[[], float] | None = None,
        scope: Scope = Scope.ALLOCATION,
    ) -> None:
        """Keep the coefficients.

        Args:
            config: Coefficients.
            clock_ns: Monotonic clock [ns].
            cgroup: The control group of the cores; this process's if None.
            num_cores: Allocated hardware threads; those of this process if None.
            own_cpu_s: Returns the CPU time of this run [s]; if None, that of a control group that is given,
                else that of this process and its descendants.
            scope: Whose CPU time is billed.
        """
        self._config = config or EstimateConfig()
        self._clock_ns = clock_ns
        if own_cpu_s is None and cgroup is not None:
            own_cpu_s = cgroup.usage_s
        self._cgroup = cgroup or Cgroup()
        self._num_cores = num_cores or allocated_cores(self._cgroup)
        self._own_cpu_s = own_cpu_s or run_tree({}).cpu_s
        self._scope = scope
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
        """Estimate the cores and the memory of this run, wherever the policy runs."""
        return cls(cfg.estimate, own_cpu_s=run_tree(environ).cpu_s, scope=Scope(cfg.scope))

    def open(self) -> Capability:
        """Take the present CPU time as zero."""
        self._t_ns = self._clock_ns()
        all_cpu_s = self._cgroup.usage_s
        if self._scope is Scope.PROCESS:
            all_cpu_s = self._own_cpu_s
        self._claim = Claim(
            own_cpu_s=self._own_cpu_s,
            all_cpu_s=all_cpu_s,
            num_cores=self._num_cores,
            own_cores=self._num_cores,
            scope=self._scope,
        )
        self._memory_limit_bytes = self._cgroup.memory_limit_bytes()
        self._cpu_j = 0.0
        self._dram_j = 0.0
        self._idle_j = 0.0
        self._lo_j = 0.0
        self._hi_j = 0.0
        self._lost_s = 0.0
        components: tuple[str, ...] = ("cpu", "dram")
        model = "CPU and memory energy are estimated from CPU time and memory size, with wide bounds"
        origin = "published means, not this machine"
        if self._is_calibrated:
            # The outside meter saw the memory too, so its power is already inside the coefficients.
            components = ("cpu",)
            model = "energy follows from CPU time, by a fit to an outside meter"
            origin = self._config.calibration.origin
        boundary = Boundary.ALLOCATION
        if self._scope is Scope.PROCESS:
            boundary = Boundary.PROCESS
        return Capability(
            source=self.name,
            tier=self._tier,
            boundary=boundary,
            components=components,
            # CPU time moves in scheduler ticks; it is cumulative, so no read is ever too late.
            period_s=_PERIOD_S,
            poll_s=None,
            keys=("allocation",),
            details=(
                model,
                f"{self._num_cores:g} allocated hardware threads at {self._idle_w:g} W idle to "
                f"{self._max_w:g} W busy",
                _WHOSE[self._scope].format(group=self._cgroup.usage_origin),
                f"coefficients: {origin}",
            ),
        )

    def read(self) -> Reading:
        """Add the energy since the last read, and its bounds."""
        t_ns = self._clock_ns()
        elapsed_s = (t_ns - self._t_ns) * 1e-9
        try:
            claimed = self._claim.advance(elapsed_s)
        except (OSError, ValueError) as error:
            raise SourceError(f"CPU time not readable: {error}") from error
        self._t_ns = t_ns
        if claimed is None:
            self._lost_s += elapsed_s
        else:
            self._add(elapsed_s, *claimed)
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
            is_shared=self._claim.is_shared,
        )

    def position(self) -> dict[str, float]:
        """Return time and CPU time of the last read, for the meter of a host."""
        if self._scope is not Scope.NODE:
            return {}
        return {"t_ns": self._t_ns, "cpu_s": self._claim.all_s()}

    def seek(self, position: Mapping[str, float]) -> None:
        """Go on from an earlier time and CPU time."""
        if {"t_ns", "cpu_s"} <= position.keys():
            self._t_ns = int(position["t_ns"])
            self._claim.seek(position["cpu_s"])

    def _add(self, elapsed_s: float, own: CoreSeconds, everything: CoreSeconds) -> None:
        """Add the energy of an interval of time.

        Args:
            elapsed_s: Length of the interval [s].
            own: Core-seconds of this run.
            everything: Core-seconds of the allocation.
        """
        # E_cpu = w_max * busy + w_idle * idle, so a core that is always busy draws w_max.
        cpu_j = own.weigh(idle=self._idle_w, busy=self._max_w)
        self._cpu_j += cpu_j
        self._idle_j += own.weigh(idle=self._idle_w, busy=self._idle_w)
        if self._is_calibrated:
            # E * (1 -+ k u), with u the relative standard uncertainty of the fit.
            spread = COVERAGE_FACTOR * self._config.calibration.relative_u
            least_j = cpu_j
            if self._claim.is_shared:
                # The idle power of the cores in use may as well be the others'.
                least_j -= own.weigh(idle=self._idle_w, busy=self._idle_w)
            self._lo_j += max(0.0, 1.0 - spread) * least_j
            self._hi_j += (1.0 + spread) * everything.weigh(idle=self._idle_w, busy=self._max_w)
            return

        # E_dram = m * p * t, with m in GB (1e9 byte) as in the published powers.
        # A memory limit is what the run reserved for itself; without one, or beside others, count what it
        # holds.
        held_bytes = self._cgroup.resident_bytes()
        limit_bytes = self._memory_limit_bytes or held_bytes
        ram_bytes = limit_bytes
        if self._scope is Scope.PROCESS or self._claim.is_shared:
            ram_bytes = held_bytes
        joules_per_byte = 1e-9 * self._config.ram_w_per_gb * elapsed_s
        self._dram_j += ram_bytes * joules_per_byte
        # Memory draws its power by its size, whoever uses it.
        self._idle_j += ram_bytes * joules_per_byte

        # The bounds ignore the CPU time as long as the run is alone: how busy the cores were says little
        # about an unknown processor.
        least_j = own.weigh(idle=self._idle_w, busy=self._idle_w) * _IDLE_FRACTION
        most_j = everything.weigh(idle=1.0, busy=1.0) * self._config.highest_w_per_core
        self._lo_j += least_j + ram_bytes * joules_per_byte / _MEMORY_FACTOR
        self._hi_j += most_j + max(limit_bytes, held_bytes) * joules_per_byte * _MEMORY_FACTOR


_WHOSE = {
    Scope.ALLOCATION: "CPU time of this run's processes, held against {group}; the idle power of free cores "
    "is in it while no others compute here",
    Scope.PROCESS: "scope process: CPU time of this run's processes, and the idle power of the cores it may "
    "use; nothing that neighbours use",
    Scope.NODE: "scope node: CPU time of everything in {group}, whoever used it",
}
