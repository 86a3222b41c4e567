"""Sites as files: the range and the source of every input, and how inputs move together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory import conf
from factory.cli.spelling import near_names
from factory.runtime import stored_files
from factory.runtime.plain_types import is_number
from factory.runtime.stored_files import visible
from factory.site.quantities import Ranged, Scale
from factory.validation import require

FOLDER = Path(conf.__file__).parent / "site"
LARGEST_SITE_W = 1e12
_LONGEST_SOURCE = 400
_MOST_INHERITED = 4
_KEYS = {"intent", "like", "facility_w", "inputs", "correlations"}

INPUTS: dict[str, tuple[Scale, str]] = {
    "capex_usd_per_w": (Scale.POSITIVE, "USD/W"),
    "life_years": (Scale.POSITIVE, "years"),
    "rate": (Scale.POSITIVE, "a year"),
    "opex_share": (Scale.POSITIVE, "of capital a year"),
    "price_usd_per_kwh": (Scale.POSITIVE, "USD/kWh"),
    "carbon_g_per_kwh": (Scale.POSITIVE, "gCO2e/kWh"),
    "pue": (Scale.ABOVE_ONE, ""),
    "fixed_overhead": (Scale.SHARE, "of overhead"),
    "chain_efficiency": (Scale.SHARE, ""),
    "outside_share": (Scale.POSITIVE, "of metered power"),
    "idle_share": (Scale.SHARE, "of full power"),
    "reserve": (Scale.SHARE, "of IT power"),
    "spares": (Scale.SHARE, "of machines"),
    "scheduled": (Scale.SHARE, "of time"),
    "maintenance": (Scale.SHARE, "of time"),
    "failures_per_node_day": (Scale.POSITIVE, "1/day"),
    "lost_s": (Scale.POSITIVE, "s"),
    "transfer": (Scale.SHARE, "of speed"),
    "kw_per_accelerator": (Scale.POSITIVE, "kW"),
    "usd_per_core_hour": (Scale.POSITIVE, "USD/h"),
    "usd_per_gpu_hour": (Scale.POSITIVE, "USD/h"),
    "price_decline": (Scale.SHARE, "a year"),
}
"""Inputs that every site has: the values they can have, and their unit."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A data centre on paper."""

    name: str
    intent: str
    facility_w: float
    """Power that the grid provides [W]."""
    inputs: Mapping[str, Ranged]
    correlations: Mapping[tuple[str, str], float]
    """Correlation of the normal deviates of two inputs."""

    def correlation_matrix(self) -> NDArray[np.float64]:
        """Return the matrix of all inputs, in their order. Shape: (num_inputs, num_inputs)."""
        order = {name: place for place, name in enumerate(self.inputs)}
        matrix = np.eye(len(order))
        for (first, second), value in self.correlations.items():
            matrix[order[first], order[second]] = value
            matrix[order[second], order[first]] = value
        return matrix

    def with_values(self, given: Mapping[str, Any]) -> Site:
        """Return the site with inputs of the user's own: one number, or [low, typical, high].

        Raises:
            ValueError: An input is unknown, or its value out of range.
        """
        changed = dict(self.inputs)
        for name, value in given.items():
            numbers = value
            if not isinstance(value, list):
                numbers = [value, value, value]
            entry = {"range": numbers, "source": "given on the command line"}
            changed[name] = _read_input(str(name), entry, key=f"inputs.{name}")
        return replace(self, inputs=changed)


def names() -> list[str]:
    """Return the sites that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Site:
    """Return a site of the package, or one from a YAML file of the user's.

    Raises:
        ValueError: There is no such site, or its file is wrong; the message names key and remedy.
    """
    site = _from_plain(name, _merged(name))
    # A correlation matrix is positive definite, or no set of variables has these correlations.
    eigenvalues = np.linalg.eigvalsh(site.correlation_matrix())
    require(
        eigenvalues[0] > 1e-9,
        f"site={name}: correlations",
        "",
        "contradict one another; bring some of them nearer to zero",
    )
    return site


def _merged(name: str) -> dict[str, Any]:
    """Return the content of a site's file, over that of the site it is like."""
    contents: list[dict[str, Any]] = []
    wanted: Any = name
    while wanted is not None:
        require(len(contents) < _MOST_INHERITED, f"site={name}: like", wanted, "too many sites in a row")
        content = _read(str(wanted), contents)
        contents.append(content)
        wanted = content.get("like")
    merged: dict[str, Any] = {"inputs": {}, "correlations": []}
    # From the ancestor down, so that a file overrides the one it is like.
    for content in reversed(contents):
        inputs = {**merged["inputs"], **content.get("inputs", {})}
        merged = {**merged, **content, "inputs": inputs}
    return merged


def _read(name: str, before: list[dict[str, Any]]) -> dict[str, Any]:
    path = FOLDER / f"{name}.yaml"
    is_own = name.endswith((".yaml", ".yml"))
    if is_own:
        path = Path(name)
    # A file of a stranger may build on the sites of the package only.
    if name not in names() and not (is_own and not before and path.is_file()):
        near = near_names(name, names())
        hint = f"choose one of {', '.join(names())}, or give a YAML file"
        if near:
            hint = f"did you mean {near[0]}? {hint}"
        raise ValueError(f"site={visible(name)}: no such site; {hint}")
    content = stored_files.read_yaml(path)
    require(isinstance(content, dict), f"site={name}", "", "write keys such as facility_w and inputs")
    unknown = sorted(str(key) for key in content if key not in _KEYS)
    require(
        not unknown, f"site={name}: {''.join(unknown[:1])}", "", f"choose from {', '.join(sorted(_KEYS))}"
    )
    for key, kind in (("inputs", dict), ("correlations", list)):
        require(isinstance(content.get(key, kind()), kind), f"site={name}: {key}", "", "has another shape")
    return content


def _from_plain(name: str, content: Mapping[str, Any]) -> Site:
    key = f"site={name}"
    facility_w = content.get("facility_w")
    is_power = is_number(facility_w) and 0.0 < facility_w <= LARGEST_SITE_W
    require(is_power, f"{key}: facility_w", facility_w, f"must be a power up to {LARGEST_SITE_W:g} W")
    missing = [wanted for wanted in INPUTS if wanted not in content["inputs"]]
    require(not missing, f"{key}: inputs", ", ".join(missing), "missing; or name a site it is `like`")
    read = {
        name: _read_input(str(name), entry, key=f"{key}: inputs.{name}")
        for name, entry in content["inputs"].items()
    }
    correlations: dict[tuple[str, str], float] = {}
    for entry in content["correlations"]:
        is_entry = isinstance(entry, list) and len(entry) == 3 and is_number(entry[2])
        require(is_entry, f"{key}: correlations", entry, "write [input, input, number]")
        first, second, value = entry
        # A list is no key of a dictionary.
        is_known = str(first) in INPUTS and str(second) in INPUTS and first != second
        require(is_known, f"{key}: correlations", entry, "name two different inputs")
        require(-1.0 < value < 1.0, f"{key}: correlations", entry, "must be between -1 and 1")
        correlations[first, second] = float(value)
    return Site(
        name=visible(Path(name).stem),
        intent=visible(str(content.get("intent", "")))[:_LONGEST_SOURCE],
        facility_w=float(facility_w or 0.0),
        inputs={wanted: read[wanted] for wanted in INPUTS},
        correlations=correlations,
    )


def _read_input(name: str, entry: Any, *, key: str) -> Ranged:
    if name not in INPUTS:
        near = near_names(name, list(INPUTS))
        hint = f"choose from {', '.join(INPUTS)}"
        if near:
            hint = f"did you mean {near[0]}?"
        raise ValueError(f"{visible(key)}: no such input; {hint}")
    scale, unit = INPUTS[name]
    is_entry = isinstance(entry, dict) and set(entry) == {"range", "source"}
    require(is_entry, key, visible(str(entry))[:80], "write range and source")
    numbers = entry["range"]
    remedy = f"write [low, typical, high], rising and {scale.range_text}"
    is_list = isinstance(numbers, list) and len(numbers) == 3 and all(map(is_number, numbers))
    require(is_list, key, visible(str(numbers))[:80], remedy)
    is_inside = all(scale.holds(number) for number in numbers)
    # Three equal numbers are a constant, which is drawn without spread.
    is_rising = numbers[0] < numbers[1] < numbers[2] or numbers[0] == numbers[1] == numbers[2]
    require(is_inside and is_rising, key, numbers, remedy)
    source = str(entry["source"]).strip()
    require(bool(source), f"{key}.source", "''", "say where the range comes from")
    low, typical, high = map(float, numbers)
    return Ranged(
        name=name,
        low=low,
        typical=typical,
        high=high,
        unit=unit,
        source=visible(source)[:_LONGEST_SOURCE],
        scale=scale,
    )
