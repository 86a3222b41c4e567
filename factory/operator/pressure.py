"""Time that processes spend waiting for memory, as far as the kernel reports it (pressure stall information).

`/proc/pressure/memory` has two lines, `some` for the time in which at least one process waited and `full` for
the time in which all did, with averages in percent over 10, 60 and 300 s; see
Documentation/accounting/psi.rst of Linux.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MEMORY = Path("/proc/pressure/memory")
_LINE = re.compile(r"(some|full) avg10=([0-9.]+) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Shares of the last ten seconds, from 0 to 1."""

    some: float = 0.0
    """At least one process waited."""
    full: float = 0.0
    """All processes that had something to do waited."""


def read_pressure(path: Path = MEMORY) -> Pressure:
    """Return the pressure on the memory; none where the kernel does not count it."""
    try:
        text = path.read_text(encoding="ascii")
        shares = {name: float(percent) / 100.0 for name, percent in _LINE.findall(text)}
    except (OSError, ValueError):
        return Pressure()
    return Pressure(**shares)
