"""The table of energy sources, and the order in which `energy=auto` tries them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from factory.energy.sources.base import EnergySource
from factory.energy.sources.estimate import EstimateSource
from factory.energy.sources.nvml import NvmlSource
from factory.energy.sources.rapl import RaplSource
from factory.energy.sources.replay import ReplaySource
from factory.energy.types import RESERVED_COMPONENTS

SOURCES: dict[str, type[EnergySource]] = {
    source.name: source for source in (RaplSource, NvmlSource, EstimateSource, ReplaySource)
}
"""Energy sources by name."""
AUTO: dict[str, tuple[str, ...]] = {"cpu": ("rapl", "estimate"), "gpu": ("nvml",)}
"""Part of the machine -> names of sources for it, the best first; `auto` takes the first one that opens."""
RESERVED_NAMES: tuple[str, ...] = ("auto", "null")
"""Values of `energy.source` that name no single source."""

# No `/`: the keys `energy/<component>_j` must differ from `energy/phase/<phase>_j`.
_COMPONENT = re.compile(r"[a-z][a-z0-9_]*")
_Source = TypeVar("_Source", bound=type[EnergySource])


def register_energy_source(source: _Source, *, auto: Sequence[str] = ()) -> _Source:
    """Add an energy source, so that `energy.source=<name>`, the doctor and, on request, `auto` use it.

    Args:
        source: The class; its `name` must be new.
        auto: Parts of the machine that `energy=auto` shall first try to meter with this source. A wall plug
            covers everything: `auto=("cpu", "gpu")` lets it replace the counters of both, so that no joule
            is counted twice. A new part, e.g. `("fan",)`, is metered in addition to the others.

    Returns:
        The class, unchanged.

    Raises:
        ValueError: If the name is taken, or a component's name cannot be part of a metric's key.
    """
    known = SOURCES.get(source.name, source)
    # A plug-in file that is executed again defines the same class anew, which is no clash.
    is_same = (known.__module__, known.__qualname__) == (source.__module__, source.__qualname__)
    if source.name in RESERVED_NAMES or not is_same:
        raise ValueError(f"energy source {source.name!r}: the name is taken; give the class another `name`")
    for component in source.components:
        if not _COMPONENT.fullmatch(component) or component in RESERVED_COMPONENTS:
            raise ValueError(
                f"energy source {source.name!r}: component {component!r} cannot be part of a metric's key; "
                f"use lowercase letters, digits and _, and none of {', '.join(RESERVED_COMPONENTS)}"
            )
    SOURCES[source.name] = source
    # The new source comes first; the built-in ones stay as fallbacks where it cannot be opened.
    for part in auto:
        others = [name for name in AUTO.get(part, ()) if name != source.name]
        AUTO[part] = (source.name, *others)
    return source


def choices() -> tuple[str, ...]:
    """Return the values that `energy.source` may have."""
    return ("auto", *SOURCES, "null")
