"""Zones of the Linux powercap tree: their selection, and each counter's energy through wraps.

Kernel documentation: Documentation/power/powercap/powercap.rst. A zone holds `name`, `energy_uj` and
`max_energy_range_uj`; the counter wraps to 0 after `max_energy_range_uj`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from factory.energy.sources.base import SourceUnavailable

PERIOD_S = 1e-3
"""Update period of the counters."""
_UNKNOWN_RANGE_UJ = 2**32 * 1e6 / 2**16
"""Range assumed where the kernel hides it: 32 bits of 2**-16 J, the smallest in use."""
# The kernel's names: `package-0`, and `package-0-die-1` on multi-die processors.
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?$")


@dataclass(slots=True)
class Zone:
    """One counter, its value at the last read, and the energy since the start."""

    key: str
    """Identity, e.g. `package-0` or `package:0/dram`."""
    component: str
    """`cpu` or `dram`."""
    energy_file: Path
    range_uj: int | None
    """Largest value of the counter [uJ]; None if the kernel hides it."""
    last_uj: int = 0
    last_t_ns: int = 0
    energy_uj: int = 0

    @property
    def wrap_j(self) -> float:
        """Return the energy after which the counter can show the same value again [J]."""
        if self.range_uj is None:
            return _UNKNOWN_RANGE_UJ * 1e-6
        return (self.range_uj + 1) * 1e-6

    def read_uj(self) -> int:
        """Return the counter's present value [uJ]."""
        return read_int(self.energy_file)

    def advance(self, value_uj: int, t_ns: int, *, max_power_w: float) -> float:
        """Add the energy since the last read and return the seconds lost, 0 if the step was unambiguous."""
        elapsed_s = (t_ns - self.last_t_ns) * 1e-9
        step_uj = value_uj - self.last_uj
        self.last_uj = value_uj
        self.last_t_ns = t_ns
        # Counters hold 0 ... range, so one wrap adds range + 1.
        if step_uj < 0 and self.range_uj is not None:
            step_uj += self.range_uj + 1

        # Within one wrap the step is unique, and no step can exceed the largest power, with some update
        # periods to spare. Anything else is a second wrap or a reset, and guessing would invent joules.
        most_j = max_power_w * (elapsed_s + 10 * PERIOD_S)
        is_backward = step_uj < 0
        may_have_wrapped_twice = max_power_w * elapsed_s >= self.wrap_j
        is_impossible = step_uj * 1e-6 > most_j
        if is_backward or may_have_wrapped_twice or is_impossible:
            return elapsed_s
        self.energy_uj += step_uj
        return 0.0


def find_zones(root: Path, remarks: list[str]) -> Iterator[Zone]:
    """Yield each package and each memory counter once; skipped views are added to `remarks`.

    Raises:
        SourceUnavailable: If there is no CPU package.
    """
    if not root.is_dir():
        raise SourceUnavailable(
            f"no powercap tree at {root} (a virtual machine, a container or no Linux)",
            remedy="run on the host, or mount its /sys/class/powercap and name it in energy.rapl_root",
        )
    seen: set[str] = set()
    # The better view of each counter comes first; later views of it are left out.
    for folder in sorted(_zone_folders(root), key=_precedence):
        name = (folder / "name").read_text().strip()
        if _PACKAGE.match(name):
            component = "cpu"
            key = name
        elif name == "dram":
            component = "dram"
            key = _dram_key(folder)
        else:  # `core` and `uncore` are parts of a package, `psys` encloses it
            continue
        # A memory zone of its own may show what the packages' nested zones already have.
        is_second_memory_view = key.startswith("top-") and any(other.endswith("/dram") for other in seen)
        if key in seen or is_second_memory_view:
            remarks.append(f"{folder.name} is a second view of {key}: left out")
            continue
        seen.add(key)
        yield Zone(key, component, folder / "energy_uj", _range_uj(folder))
    if not any(_PACKAGE.match(key) for key in seen):
        raise SourceUnavailable(
            f"{root} holds no CPU package zone (containers and virtual machines hide it)",
            remedy="in a container, mount the host's /sys/class/powercap and name it in energy.rapl_root; "
            "on the machine itself, run 'sudo modprobe intel_rapl_msr'",
        )


def drop_mirrors(zones: list[Zone], remarks: list[str]) -> list[Zone]:
    """Keep one of several packages that show the same register, as some multi-die CPUs do."""
    kept: list[Zone] = []
    for zone in zones:
        twin = next((other for other in kept if _is_mirror(other, zone)), None)
        if twin is None:
            kept.append(zone)
        else:
            remarks.append(f"{zone.key} mirrors {twin.key}: counted once")
    return kept


def read_int(path: Path) -> int:
    """Read a file that holds one integer."""
    return int(path.read_text())


def _zone_folders(root: Path) -> set[Path]:
    """List zones, flat as in /sys/class/powercap or nested as in a mounted control type."""
    # /sys/class/powercap lists every zone flat as a link, so nested paths show up as duplicates of a name.
    zones: dict[str, Path] = {}
    for depth in ("*:*", "*/*:*", "*/*/*:*"):
        for path in root.glob(depth):
            if "rapl" in path.name and (path / "name").is_file():
                zones.setdefault(path.name, path)
    return set(zones.values())


def _precedence(folder: Path) -> tuple[bool, int, str]:
    """Order zones so that the later of two views is left out: MMIO last, nested before top-level."""
    is_mmio = "mmio" in folder.name
    depth = folder.name.count(":")
    return is_mmio, -depth, folder.name


def _dram_key(folder: Path) -> str:
    """Return `package:0/dram` for `intel-rapl:0:2`, and `top-3` for a top-level zone `intel-rapl:3`."""
    # `intel-rapl:0:2` is zone 2 inside package 0.
    _, *numbers = folder.name.split(":")
    if len(numbers) > 1:
        return f"package:{numbers[0]}/dram"
    return f"top-{numbers[0]}"


def _range_uj(folder: Path) -> int | None:
    try:
        return read_int(folder / "max_energy_range_uj")
    except (OSError, ValueError):
        return None


def _is_mirror(one: Zone, other: Zone) -> bool:
    """Tell whether two zones show one register.

    Read A, B, A: the values of A bracket that of B only if both are the same counter. Two independent
    counters differ by far more than the energy drawn in some microseconds.
    """
    if one.component != other.component or one.range_uj != other.range_uj:
        return False
    try:
        # The three reads take microseconds; the counters differ by whatever was drawn since boot.
        before_uj = one.read_uj()
        between_uj = other.read_uj()
        after_uj = one.read_uj()
    except (OSError, ValueError):
        return False
    return 0 < before_uj <= between_uj <= after_uj
