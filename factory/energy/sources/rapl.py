"""CPU package and memory energy from Intel/AMD RAPL counters in the Linux powercap tree.

Kernel documentation: Documentation/power/powercap/powercap.rst. A zone holds `name`, `energy_uj` and
`max_energy_range_uj`; the counter wraps to 0 after `max_energy_range_uj`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from factory.energy.cgroup import Cgroup, share_of_host
from factory.energy.sources.base import SourceError, SourceUnavailable
from factory.energy.types import Boundary, Capability, Interval, Reading, Tier
from factory.energy.uncertainty import expanded_j, quantisation_u_j

_PERIOD_S = 1e-3
_GAIN_U = 0.05
"""Relative standard uncertainty: Desrochers and Weaver, MEMSYS 2016, found 5-10 % for packages."""
_UNKNOWN_RANGE_UJ = 2**32 * 1e6 / 2**16
"""Range assumed where the kernel hides it: 32 bits of 2**-16 J, the smallest in use."""
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?$")


@dataclass(slots=True)
class _Zone:
    """One counter and where it stood at the last read."""

    key: str
    component: str
    energy_file: Path
    range_uj: int | None
    last_uj: int = 0
    last_t_ns: int = 0
    energy_uj: int = 0

    @property
    def wrap_j(self) -> float:
        """Return the energy after which the counter may come round to the same value [J]."""
        return (_UNKNOWN_RANGE_UJ if self.range_uj is None else self.range_uj + 1) * 1e-6

    def advance(self, value_uj: int, t_ns: int, *, max_power_w: float) -> float:
        """Add the energy since the last read and return the seconds lost, 0 if the step was unambiguous."""
        elapsed_s = (t_ns - self.last_t_ns) * 1e-9
        step_uj = value_uj - self.last_uj
        self.last_uj, self.last_t_ns = value_uj, t_ns
        if step_uj < 0 and self.range_uj is not None:
            step_uj += self.range_uj + 1
        # Within one wrap the step is unique, and no step can exceed the largest power: anything else is a
        # second wrap or a reset, and guessing would be inventing joules.
        most_j = max_power_w * (elapsed_s + 10 * _PERIOD_S)
        if step_uj < 0 or max_power_w * elapsed_s >= self.wrap_j or step_uj * 1e-6 > most_j:
            return elapsed_s
        self.energy_uj += step_uj
        return 0.0


class RaplSource:
    """Sum of the distinct CPU packages and their memory; each joule once.

    `psys` (a superset), `core` and `uncore` (parts of a package), MMIO twins and mirrored counters of
    multi-die packages are left out.
    """

    name = "rapl"

    def __init__(
        self,
        root: Path = Path("/sys/class/powercap"),
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        *,
        max_power_w: float = 1000.0,
        run_share: float | None = None,
    ) -> None:
        """Remember where to look.

        Args:
            root: The powercap tree; another mount point inside a container.
            clock_ns: Monotonic clock [ns].
            max_power_w: More than any one zone can draw [W]; tells a wrap from a reset and from two wraps.
            run_share: Part of the machine's hardware threads that is this run's; asked of the system if None.
        """
        self._root = Path(root)
        self._clock_ns = clock_ns
        self._max_power_w = max_power_w
        self._run_share = run_share
        self._tier = Tier.MEASURED
        self._zones: list[_Zone] = []
        self._lost_s = 0.0

    def open(self) -> Capability:
        """Find the zones and take their present values as zero."""
        self._lost_s = 0.0
        details: list[str] = []
        self._zones = [zone for zone in self._find_zones(details) if self._baseline(zone, details)]
        self._drop_mirrors(details)
        packages = [zone for zone in self._zones if zone.component == "cpu"]
        has_dram = len(packages) < len(self._zones)
        if not has_dram:
            details.append("this CPU has no readable memory counter: dram is not in the total")
        share = share_of_host(Cgroup()) if self._run_share is None else self._run_share
        self._tier = Tier.SHARED if share < 1.0 else Tier.MEASURED
        if self._tier is Tier.SHARED:
            details.append(
                f"{100.0 * share:.3g} % of the machine's hardware threads are this run's, and a package counts what "
                "others use, too: an upper bound"
            )
        return Capability(
            source=self.name,
            tier=self._tier,
            boundary=Boundary.PACKAGE_DRAM if has_dram else Boundary.PACKAGE,
            components=("cpu", "dram") if has_dram else ("cpu",),
            period_s=_PERIOD_S,
            poll_s=0.4 * min(zone.wrap_j for zone in self._zones) / self._max_power_w,
            keys=tuple(zone.key for zone in self._zones),
            details=tuple(details),
        )

    def read(self) -> Reading:
        """Read every zone; a step that could be a second wrap or a reset is lost, not guessed."""
        t_ns = self._clock_ns()
        try:
            values_uj = [_read_int(zone.energy_file) for zone in self._zones]
        except (OSError, ValueError) as error:
            raise SourceError(f"RAPL counter not readable: {error}") from error
        self._lost_s += max(
            zone.advance(value_uj, t_ns, max_power_w=self._max_power_w)
            for zone, value_uj in zip(self._zones, values_uj, strict=True)
        )
        components_j = {"cpu": 0.0}
        for zone in self._zones:
            components_j[zone.component] = components_j.get(zone.component, 0.0) + zone.energy_uj * 1e-6
        total_j = sum(components_j.values())
        edge_u_j = len(self._zones) * quantisation_u_j(self._max_power_w, period_s=_PERIOD_S)
        bounds = Interval.around(total_j, half_width=expanded_j(_GAIN_U * total_j, edge_u_j))
        lo_j = 0.0 if self._tier is Tier.SHARED else bounds.lo  # all of it may be the others'
        return Reading(t_ns, self.name, self._tier, components_j, lo_j, bounds.hi, self._lost_s)

    def close(self) -> None:
        """Forget the zones; no file is kept open."""
        self._zones = []

    def _find_zones(self, details: list[str]) -> Iterator[_Zone]:
        if not self._root.is_dir():
            raise SourceUnavailable(
                f"no powercap tree at {self._root} (a virtual machine, a container or no Linux)",
                remedy="run on the host, or mount its /sys/class/powercap and name it in energy.rapl_root",
            )
        seen: set[str] = set()
        found = False
        for folder in sorted(_zone_folders(self._root), key=_precedence):
            name = (folder / "name").read_text().strip()
            component = "cpu" if _PACKAGE.match(name) else "dram" if name == "dram" else None
            if component is None:
                continue
            key = name if component == "cpu" else _dram_key(folder)
            if key in seen or (key.startswith("top-") and any(other.endswith("/dram") for other in seen)):
                details.append(f"{folder.name} is a second view of {key}: left out")
                continue
            seen.add(key)
            found = found or component == "cpu"
            yield _Zone(key, component, folder / "energy_uj", _range_uj(folder))
        if not found:
            raise SourceUnavailable(
                f"{self._root} holds no CPU package zone (containers and virtual machines hide it)",
                remedy="in a container mount the host's /sys/class/powercap and name it in energy.rapl_root; "
                "on a machine of one's own run 'sudo modprobe intel_rapl_msr'",
            )

    def _baseline(self, zone: _Zone, details: list[str]) -> bool:
        try:
            zone.last_uj = _read_int(zone.energy_file)
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

    def _drop_mirrors(self, details: list[str]) -> None:
        """Keep one of several packages that show the same register, as some multi-die CPUs do.

        Reading A, B, A brackets B only if both are one counter: two that count for themselves stand
        apart by more than what is drawn in some microseconds.
        """
        kept: list[_Zone] = []
        for zone in self._zones:
            twin = next((other for other in kept if _is_mirror(other, zone)), None)
            if twin is None:
                kept.append(zone)
            else:
                details.append(f"{zone.key} mirrors {twin.key}: counted once")
        self._zones = kept


def _zone_folders(root: Path) -> set[Path]:
    """List zones, flat as in /sys/class/powercap or nested as in a mounted control type."""
    zones: dict[str, Path] = {}
    for depth in ("*:*", "*/*:*", "*/*/*:*"):
        for path in root.glob(depth):
            if "rapl" in path.name and (path / "name").is_file():
                zones.setdefault(path.name, path)
    return set(zones.values())


def _precedence(folder: Path) -> tuple[bool, int, str]:
    """Order zones so that of two views the later is left out: MMIO last, nested before top-level."""
    return "mmio" in folder.name, -folder.name.count(":"), folder.name


def _dram_key(folder: Path) -> str:
    """Return `package:0/dram` for `intel-rapl:0:2`, and `top-3` for a zone `intel-rapl:3` of its own."""
    _, *numbers = folder.name.split(":")
    return f"package:{numbers[0]}/dram" if len(numbers) > 1 else f"top-{numbers[0]}"


def _range_uj(folder: Path) -> int | None:
    try:
        return _read_int(folder / "max_energy_range_uj")
    except (OSError, ValueError):
        return None


def _read_int(path: Path) -> int:
    return int(path.read_text())


def _is_mirror(one: _Zone, other: _Zone) -> bool:
    if one.component != other.component or one.range_uj != other.range_uj:
        return False
    try:
        before_uj, between_uj, after_uj = (_read_int(zone.energy_file) for zone in (one, other, one))
    except (OSError, ValueError):
        return False
    return 0 < before_uj <= between_uj <= after_uj
