"""Limits of the numbers in a robot's file that cost memory or time.

All other numbers are physics, which cost the same whatever their values are. An attribute has the same limits
in every element, since most of them may also stand in a `default` class.
"""

from __future__ import annotations

import math
import re

_LIMITS: dict[str, tuple[float, float]] = {
    # Solver.
    "timestep": (1e-4, 0.1),
    "iterations": (0, 1000),
    "ls_iterations": (0, 200),
    "noslip_iterations": (0, 1000),
    "ccd_iterations": (0, 1000),
    "sdf_iterations": (0, 1000),
    "sdf_initpoints": (0, 1000),
    "lengthrange.interval": (0, 100),
    "lengthrange.inttotal": (0, 100),
    # Arrays of model and data.
    "size.nuserdata": (-1, 10_000),
    "size.nkey": (-1, 1000),
    "size.njmax": (-1, 20_000),
    "size.nconmax": (-1, 20_000),
    "size.nstack": (-1, 1 << 25),
    "size.memory": (-1, 1 << 28),
    "numeric.size": (0, 10_000),
    "dim": (0, 1000),
    "num": (0, 100),
    "nsample": (0, 1000),
    "actdim": (-1, 64),
    # Meshes, images and drawing.
    "params": (-360, 200),
    "octree_maxdepth": (0, 8),
    "subgrid": (0, 16),
    "width": (0, 16_384),
    "height": (0, 16_384),
    "nchannel": (1, 4),
    "nrow": (0, 16_384),
    "ncol": (0, 16_384),
    "resolution": (0, 16_384),
    "shadowsize": (0, 16_384),
    "offwidth": (0, 8192),
    "offheight": (0, 8192),
    "offsamples": (0, 64),
    "numslices": (0, 256),
    "numstacks": (0, 256),
    "numquads": (0, 256),
    # Copies.
    "count": (0, 10_000),
    "cellcount": (0, 10_000),
}
_USER_SIZES = re.compile(r"nuser_\w+")
_MAX_USER_NUMBERS = 100
_MAX_SUBDIVISION = 5
"""A sphere has 20 triangles, and four times as many with every subdivision."""
_REFUSED = {("plugin", "plugin"), ("plugin", "instance"), ("rangefinder", "camera"), ("model", "file")}
"""Plug-ins have sizes of their own, cameras cast a ray a pixel, and models attach each other without end."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MEMORY = re.compile(r"([0-9]{1,20})([KMGTPE])")
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate("KMGTPE", 1)}


def check_values(tag: str, attributes: dict[str, str]) -> None:
    """Check the attributes of an element.

    Raises:
        ValueError: a value costs too much memory or time, or is no number; the message names it.
    """
    for key, value in attributes.items():
        shown = f"<{tag} {key}={value!r:.40}>"
        if (tag, key) in _REFUSED:
            raise ValueError(f"{shown} is not supported in a robot's file; remove it")
        if key == "user" and len(value.split()) > _MAX_USER_NUMBERS:
            raise ValueError(f"{shown} has more than {_MAX_USER_NUMBERS} numbers")
        limits = _limits(tag, key)
        if limits is None:
            continue
        low, high = limits
        try:
            fits = all(low <= number <= high for number in numbers(value))
        except ValueError as error:
            raise ValueError(f"{shown} is no plain number") from error
        if not fits:
            raise ValueError(f"{shown} is not within {low:g} and {high:g}")


def copies(tag: str, attributes: dict[str, str]) -> int:
    """Return the number of copies that an element with checked attributes makes of the elements in it."""
    if tag not in ("replicate", "composite", "flexcomp"):
        return 1
    made = 1
    for key in ("count", "cellcount"):
        made *= math.prod(max(1, math.ceil(number)) for number in numbers(attributes.get(key, "1")))
    return made


def weight(tag: str, attributes: dict[str, str]) -> int:
    """Return the number of plain elements that cost as much as one with checked attributes."""
    # A keyframe holds the state of all bodies.
    values = [50.0 if tag == "key" else 1.0]
    for key in ("dim", "num", "nsample"):
        values += numbers(attributes.get(key, "1"))
    if tag == "numeric":
        values += numbers(attributes.get("size", "1"))
    return math.prod(max(1, math.ceil(value)) for value in values)


def cells(tag: str, attributes: dict[str, str]) -> int:
    """Return the number of pixels, points and vertices that an element with checked attributes makes.

    Raises:
        ValueError: a mesh is divided too often.
    """
    made = _product(attributes, "nrow", "ncol")
    if tag == "texture":
        width = _product(attributes, "width")
        height = _product(attributes, "height")
        made += width * height
        if attributes.get("type") != "2d":
            # Six sides, which MuJoCo makes square.
            made += 6 * width * max(width, height)
    if tag == "mesh" and "builtin" in attributes:
        largest = max(numbers(attributes.get("params", "0")), default=0.0)
        if attributes["builtin"] == "sphere" and largest > _MAX_SUBDIVISION:
            raise ValueError(f"<mesh params={largest:g}> is not within 0 and {_MAX_SUBDIVISION}")
        made += 16 * math.ceil(largest) ** 2
    return made


def numbers(text: str) -> list[float]:
    """Return the numbers in an attribute; a size of memory may have a unit, as `64M`.

    Raises:
        ValueError: there is something else in it.
    """
    found = []
    for word in text.split():
        memory = _MEMORY.fullmatch(word)
        if memory is not None:
            found.append(float(memory[1]) * _UNITS[memory[2]])
        elif _NUMBER.fullmatch(word) is not None:
            found.append(float(word))
        else:
            raise ValueError(f"{word!r:.40} is no number")
    return found


def _limits(tag: str, key: str) -> tuple[float, float] | None:
    if tag == "size" and _USER_SIZES.fullmatch(key):
        return (-1, _MAX_USER_NUMBERS)
    return _LIMITS.get(f"{tag}.{key}", _LIMITS.get(key))


def _product(attributes: dict[str, str], *keys: str) -> int:
    return math.prod(math.ceil(number) for key in keys for number in numbers(attributes.get(key, "0")))
