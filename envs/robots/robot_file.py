"""Check a robot's file before MuJoCo reads it: what it includes, how large it gets, and that it is plain.

MuJoCo follows any path in the file and makes room for any size. The check reads the XML without entities and
asks that files lie beside the robot, or in a folder of meshes next to the robot's folder as ROS packages have
it, and that nothing is absurdly large.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.parsers import expat

from factory.runtime import stored_files

_MAX_XML_BYTES = 32 << 20
_MAX_ASSET_BYTES = 512 << 20
_MAX_DEPTH = 200
_MAX_INCLUDES = 64
_MAX_ELEMENTS = 200_000
_MAX_COPIES = 10_000
"""Bodies that nested `replicate`, `composite` and `flexcomp` elements may make."""
_MAX_CELLS = 1 << 26
"""Pixels of a texture, or points of a height field."""
_MAX_SIZE = 1 << 28
"""Largest number in a `size` element; arrays have 8 bytes an entry."""
_ASSET_FOLDERS = ("meshes", "mesh", "assets", "textures", "materials", "media")
"""Folders next to the robot's own that may hold its files."""
_FOLDER_KEYS = ("meshdir", "texturedir", "assetdir")
_FILE_KEY = re.compile(r"file\w*|filename")
_COPYING = {"replicate": "count", "composite": "count", "flexcomp": "count"}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}


@dataclass(kw_only=True)
class _Contents:
    """Contents that the XML files of a robot refer to."""

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    includes: list[str] = field(default_factory=list)
    num_elements: int = 0


def check(path: Path) -> set[Path]:
    """Check a robot's MJCF or URDF file and the files it names; return it and those that are there.

    Raises:
        ValueError: it is no plain XML, reaches out of its folder, or asks for an absurd size.
    """
    contents = _Contents()
    waiting = [path]
    read: set[Path] = set()
    included_files: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file.resolve() in read:
            continue
        read.add(file.resolve())
        if len(read) > _MAX_INCLUDES:
            raise ValueError(f"{path.name} includes more than {_MAX_INCLUDES} files")
        _parse(file, contents)
        # MuJoCo looks for included files from the folder of the first one.
        for name in contents.includes:
            included = _check_place(name, [""], path)
            included_files |= included
            waiting += included
        contents.includes.clear()
    for folder in contents.folders:
        _check_place(folder, [""], path)
    found = {path, *included_files}
    for name in contents.files:
        found |= _check_place(name, ["", *contents.folders], path)
    return found


def _check_place(name: str, folders: list[str], robot: Path) -> set[Path]:
    """Check that a file lies with the robot, wherever MuJoCo looks for it, and is a plain one.

    Returns:
        The files of this name that are there.

    Raises:
        ValueError: it does not.
    """
    plain = name.replace("\\", "/")
    if "://" in plain:
        # A ROS package's name, which MuJoCo drops.
        plain = plain.partition("://")[2].partition("/")[2]
    found: set[Path] = set()
    for folder in folders:
        relative = PurePosixPath(folder.replace("\\", "/")) / plain
        target = robot.parent / relative
        if relative.is_absolute() or not _is_allowed(target, robot.parent):
            raise ValueError(
                f"{robot.name} names the file {name!r:.80}, outside the robot's folder; put a copy beside it"
            )
        if target.exists() and not target.is_dir():
            _check_plain(target, robot)
            found.add(target)
    return found


def _is_allowed(target: Path, folder: Path) -> bool:
    home = folder.resolve()
    place = target.resolve()
    return any(
        place.is_relative_to(root) for root in (home, *(home.parent / name for name in _ASSET_FOLDERS))
    )


def _check_plain(target: Path, robot: Path) -> None:
    if not target.is_file():
        raise ValueError(f"{robot.name} names {target.name}, which is no plain file")
    if target.stat().st_size > _MAX_ASSET_BYTES:
        raise ValueError(
            f"{robot.name} names {target.name}, which is larger than {_MAX_ASSET_BYTES >> 20} MiB"
        )


def _parse(path: Path, contents: _Contents) -> None:
    """Add what an XML file names to `contents`.

    Raises:
        ValueError: it declares a document type, is nested too deeply, or asks for an absurd size.
    """
    # Copies that the elements around the present one make of what is in them.
    copies = [1]

    def start(tag: str, attributes: dict[str, str]) -> None:
        contents.num_elements += 1
        if len(copies) > _MAX_DEPTH or contents.num_elements > _MAX_ELEMENTS:
            raise ValueError(f"{path.name} is nested too deeply, or has too many elements")
        made = copies[-1]
        if tag in _COPYING:
            for number in _numbers(attributes.get(_COPYING[tag], "1")):
                made *= max(1, number)
        if made > _MAX_COPIES:
            raise ValueError(f"{path.name}: <{tag}> makes more than {_MAX_COPIES} copies")
        copies.append(made)
        _check_sizes(path, tag, attributes)
        for key, value in attributes.items():
            if key in _FOLDER_KEYS:
                contents.folders.append(value)
            elif tag == "include" and key == "file":
                contents.includes.append(value)
            elif _FILE_KEY.fullmatch(key):
                contents.files.append(value)

    def end(_: str) -> None:
        copies.pop()

    def refuse(*_: object) -> None:
        raise ValueError(f"{path.name} declares a document type or an entity; remove the declaration")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(stored_files.read_bytes(path, limit=_MAX_XML_BYTES), True)
    except expat.ExpatError as error:
        raise ValueError(f"{path.name} is no XML ({error})") from error


def _check_sizes(path: Path, tag: str, attributes: dict[str, str]) -> None:
    cells = 1
    for key in ("width", "height", "nrow", "ncol"):
        for number in _numbers(attributes.get(key, "1")):
            cells *= max(1, number)
    if cells > _MAX_CELLS:
        raise ValueError(f"{path.name}: <{tag}> has {cells} cells; give it at most {_MAX_CELLS}")
    if tag == "size":
        for key, value in attributes.items():
            if any(number > _MAX_SIZE for number in _numbers(value)):
                raise ValueError(f"{path.name}: <size {key}={value!r:.40}> is too large")


def _numbers(text: str) -> list[int]:
    """Return the whole numbers in an attribute, those with a unit such as `64M` too."""
    found = re.findall(r"(\d{1,30})(?:\.\d*)?([KMGTPE]?)", text)
    return [int(digits) * _UNITS[unit] for digits, unit in found]
