"""CPU package and memory energy from Intel/AMD RAPL counters in the Linux powercap tree."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from factory.energy.cgroup import Cgroup, host_cpu_s, share_of_host
from factory.energy.claim import Claim, Scope, run_tree
from factory.energy.sources.base import EnergySource, SourceError, SourceUnavailable
from factory.energy.sources.rapl_zones import PERIOD_S, Zone, drop_mirrors, find_zones
from factory.energy.types import Boundary, Capability, Interval, Reading, Tier
from factory.energy.uncertainty import expanded_j, quantisation_u_j

if TYPE_CHECKING:
    from factory.energy.config import EnergyConfig

_GAIN_U = 0.05
"""Relative standard uncertainty: Desrochers and Weaver, MEMSYS 2016, found 5-10 % for packages."""
_POLL_FRACTION = 0.4
"""Time between two reads over the shortest possible wrap time: two reads fit into one wrap."""


class RaplSource(EnergySource):
    """Sum of the distinct CPU packages and their memory; each joule once.

    Where others use the packages too, a run claims its share by CPU time, with the estimate's powers of busy
    and idle cores as weights.

    Left out: `psys` (a superset), `core` and `uncore` (parts of a package), MMIO twins, and mirrored counters
    of multi-die packages.
    """

    name = "rapl"
    title = "RAPL"
    components = ("cpu", "dram")

    def __init__(
        self,
        root: Path = Path("/sys/class/powercap"),
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        *,
        max_power_w: float = 1000.0,
        run_share: float | None = None,
        own_cpu_s: Callable[[], float] | None = None,
        all_cpu_s: Callable[[], float] = host_cpu_s,
        scope: Scope = Scope.ALLOCATION,
        idle_weight: float = 0.2,
    ) -> None:
        """Keep the settings; nothing is read before `open`.

        Args:
            root: The powercap tree; another mount point inside a container.
            clock_ns: Monotonic clock [ns].
            max_power_w: More than any one zone can draw [W]; tells a wrap from a reset and from two wraps.
            run_share: Fraction of the machine's hardware threads that this run has; that of this process if
                None.
            own_cpu_s: Returns the CPU time of this run [s]; if None, all of the counter is the run's.
            all_cpu_s: Returns the CPU time of everything on the machine [s].
            scope: Whose CPU time is billed.
            idle_weight: Power of an idle core over that of a busy one.
        """
        self._root = Path(root)
        self._clock_ns = clock_ns
        self._max_power_w = max_power_w
        self._run_share = run_share
        self._own_cpu_s = own_cpu_s
        self._all_cpu_s = all_cpu_s
        self._scope = scope
        self._idle_weight = idle_weight
        self._claim: Claim | None = None
        self._tier = Tier.MEASURED
        self._zones: list[Zone] = []
        self._lost_s = 0.0

    @classmethod
    def from_config(cls, cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Self:
        """Read the tree at `energy.rapl_root`."""
        return cls(
            Path(cfg.rapl_root),
            own_cpu_s=run_tree(environ).cpu_s,
            scope=Scope(cfg.scope),
            idle_weight=cfg.estimate.idle_w_per_core / max(cfg.estimate.max_w_per_core, 1e-9),
        )

    def open(self) -> Capability:
        """Find the zones and take their present values as zero."""
        self._lost_s = 0.0
        details: list[str] = []
        # Mirrors are found by reading, so only readable zones can be compared.
        readable = [zone for zone in find_zones(self._root, details) if self._set_zero(zone, details)]
        self._zones = drop_mirrors(readable, details)
        components: tuple[str, ...] = ("cpu", "dram")
        boundary = Boundary.PACKAGE_DRAM
        if all(zone.component == "cpu" for zone in self._zones):
            components = ("cpu",)
            boundary = Boundary.PACKAGE
            details.append("this CPU has no readable memory counter: dram is not in the total")
        self._t_ns = self._clock_ns()
        self._total_j = 0.0
        self._claimed_j = dict.fromkeys(components, 0.0)
        self._counted_uj = dict.fromkeys(components, 0)
        self._tier = self._find_tier(details)
        # t_wrap = E_wrap / P_max: the counter that wraps first decides how often all are read.
        shortest_wrap_j = min(zone.wrap_j for zone in self._zones)
        return Capability(
            source=self.name,
            tier=self._tier,
            boundary=boundary,
            components=components,
            period_s=PERIOD_S,
            poll_s=_POLL_FRACTION * shortest_wrap_j / self._max_power_w,
            keys=tuple(zone.key for zone in self._zones),
            details=tuple(details),
        )

    def read(self) -> Reading:
        """Read every zone; a step that could be a second wrap or a reset is lost, not guessed."""
        t_ns = self._clock_ns()
        try:
            # Read all before advancing any: a failed read must not leave the zones at different times.
            values_uj = [zone.read_uj() for zone in self._zones]
        except (OSError, ValueError) as error:
            raise SourceError(f"RAPL counter not readable: {error}") from error
        self._lost_s += max(
            zone.advance(value_uj, t_ns, max_power_w=self._max_power_w)
            for zone, value_uj in zip(self._zones, values_uj, strict=True)
        )
        self._add(self._take_share(t_ns))

        # Two independent errors: the sensors' gain, and the update period at both ends. The zones' edges add
        # up linearly because their power rises and falls together.
        edge_u_j = len(self._zones) * quantisation_u_j(self._max_power_w, period_s=PERIOD_S)
        whole = Interval.around(self._total_j, half_width=expanded_j(_GAIN_U * self._total_j, edge_u_j))
        # The upper bound is everybody's: other processes may have used none of it, or all.
        lo_j = 0.0
        if self._tier is not Tier.SHARED:
            lo_j = max(0.0, sum(self._claimed_j.values()) - (whole.hi - self._total_j))
        return Reading(
            t_ns=t_ns,
            source=self.name,
            tier=self._tier,
            components_j=dict(self._claimed_j),
            lo_j=lo_j,
            hi_j=whole.hi,
            lost_s=self._lost_s,
            is_shared=self._claim is not None and self._claim.is_shared,
        )

    def position(self) -> dict[str, float]:
        """Return the counters [uJ] and the time of the last read."""
        values_uj = {zone.key: float(zone.last_uj) for zone in self._zones}
        return {**values_uj, "t_ns": float(self._t_ns)}

    def seek(self, position: Mapping[str, float]) -> None:
        """Go on from earlier counters; a gap in which one may have wrapped twice is lost."""
        for zone in self._zones:
            if {zone.key, "t_ns"} <= position.keys():
                zone.last_uj = int(position[zone.key])
                zone.last_t_ns = int(position["t_ns"])

    def close(self) -> None:
        """Forget the zones; no file is kept open."""
        self._zones = []

    def _set_zero(self, zone: Zone, details: list[str]) -> bool:
        """Take the zone's present value as zero; return False for an unreadable memory counter."""
        try:
            zone.last_uj = zone.read_uj()
        except (OSError, ValueError) as error:
            if zone.component == "dram":
                details.append(f"{zone.key}: {error}")
                return False
            raise SourceUnavailable(
                f"{zone.energy_file} cannot be read ({error}); since CVE-2020-8694 only root may",
                remedy=f"run 'sudo chmod a+r {self._root}/intel-rapl:*/energy_uj' after each boot",
            ) from error
        zone.last_t_ns = self._clock_ns()
        return True

    def _add(self, share: float) -> None:
        """Claim a share of the energy since the last read."""
        counted_uj = dict.fromkeys(self._counted_uj, 0)
        for zone in self._zones:
            counted_uj[zone.component] += zone.energy_uj
        for component, energy_uj in counted_uj.items():
            # Zones count in uJ as integers; the conversion comes last and loses nothing over a long run.
            step_j = (energy_uj - self._counted_uj[component]) * 1e-6
            self._claimed_j[component] += share * step_j
        self._counted_uj = counted_uj
        self._total_j = sum(counted_uj.values()) * 1e-6

    def _take_share(self, t_ns: int) -> float:
        """Return this run's share of the energy since the last read; all of it where nothing is known."""
        elapsed_s = (t_ns - self._t_ns) * 1e-9
        self._t_ns = t_ns
        if self._claim is None:
            return 1.0
        try:
            claimed = self._claim.advance(elapsed_s)
        except (OSError, ValueError) as error:
            raise SourceError(f"CPU time not readable: {error}") from error
        if self._claim.is_shared:
            self._tier = Tier.SHARED
        if claimed is None:
            return 1.0
        own, everything = (part.weigh(idle=self._idle_weight, busy=1.0) for part in claimed)
        if everything <= 0.0:
            return 1.0
        return own / everything

    def _find_tier(self, details: list[str]) -> Tier:
        """Return `shared` where others may run on the same packages, and prepare to claim a share."""
        # A package's counter cannot tell processes apart, so anything less than all threads means sharing.
        share = self._run_share
        if share is None:
            share = share_of_host(Cgroup())
        rest = "an upper bound"
        self._claim = None
        if self._own_cpu_s is not None and self._scope is not Scope.NODE:
            num_cores = os.cpu_count() or 1
            with suppress(OSError, ValueError):
                self._claim = Claim(
                    own_cpu_s=self._own_cpu_s,
                    all_cpu_s=self._all_cpu_s,
                    num_cores=num_cores,
                    own_cores=share * num_cores,
                    scope=self._scope,
                )
                rest = "this run's share follows from CPU time, and only the upper bound is certain"
        if self._scope is Scope.PROCESS:
            details.append(f"scope process: a package's counter includes what others use: {rest}")
            return Tier.SHARED
        if share >= 1.0:
            return Tier.MEASURED
        details.append(
            f"this run has {100.0 * share:.3g} % of the machine's hardware threads, and a package's counter "
            f"includes what others use: {rest}"
        )
        return Tier.SHARED
