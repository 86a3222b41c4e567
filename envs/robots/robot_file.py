"""Check a robot's file before MuJoCo reads it: what it includes, how large it gets, and that it is plain.

MuJoCo follows any path in the file and makes room for any size. The check reads the XML without entities and
asks that files lie beside the robot, or in a folder of meshes next to the robot's folder as ROS packages have
it, and that nothing is absurdly large.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from factory.envs.robots import image_file, robot_limits
from factory.runtime import stored_files

_MAX_XML_BYTES = 32 << 20
_MAX_ASSET_BYTES = 512 << 20
_MAX_DEPTH = 200
_MAX_INCLUDES = 64
_MAX_ELEMENTS = 100_000
"""Elements of all files; large ones count more than once."""
_MAX_COPIED_ELEMENTS = 2_000_000
"""Elements times copies, since MuJoCo copies sensors with the bodies that they name."""
_MAX_COPIES = 10_000
"""Bodies that nested `replicate`, `composite` and `flexcomp` elements may make."""
_MAX_CELLS = 1 << 26
"""Pixels of all textures, points of height fields, and vertices of built-in meshes."""
_MAX_NAME = 1000
_MAX_PLACES = 10_000
"""Places to look for files: every name, in every folder of meshes, from the folder of every XML file."""
_ASSET_FOLDERS = ("meshes", "mesh", "assets", "textures", "materials", "media")
"""Folders next to the robot's own that may hold its files."""
_FOLDER_KEYS = ("meshdir", "texturedir", "assetdir")
_FILE_KEY = re.compile(r"file\w*|filename")
_RAW_ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*("[^"]*"|'[^']*')""")
_ENCODINGS = ("utf-8", "us-ascii", "ascii")


@dataclass(kw_only=True)
class _Contents:
    """Contents that the XML files of a robot refer to."""

    folders: set[str] = field(default_factory=set)
    files: Counter[str] = field(default_factory=Counter)
    includes: set[str] = field(default_factory=set)
    num_elements: int = 0
    most_copies: int = 1
    num_cells: int = 0


def check(path: Path) -> set[Path]:
    """Check a robot's MJCF or URDF file and the files it names; return it and those that are there.

    Raises:
        ValueError: it is no plain XML, reaches out of its folder, or asks for an absurd size.
    """
    contents = _Contents()
    places = _Places(path)
    documents = {path}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        places.bases.add(file.parent)
        _parse(file, contents)
        # A file may be there from a folder that has just become known.
        for name in contents.includes:
            new = places.find(name) - documents
            documents |= new
            waiting += new
        if len(documents) > _MAX_INCLUDES:
            raise ValueError(f"{path.name} includes more than {_MAX_INCLUDES} files")

    for folder in contents.folders:
        places.find(folder)
    found = set(documents)
    num_bytes = 0
    for name, times in contents.files.items():
        for file in places.find(name, contents.folders):
            found.add(file)
            # MuJoCo reads a file once for every element that names it.
            num_bytes += times * file.stat().st_size
            if num_bytes > _MAX_ASSET_BYTES:
                raise ValueError(f"{path.name} names files of more than {_MAX_ASSET_BYTES >> 20} MiB")
            try:
                pixels = image_file.num_pixels(file, limit=_MAX_CELLS)
            except ValueError as error:
                raise ValueError(f"{path.name} names {name!r:.80}: {error}") from error
            _add_cells(contents, times * pixels, f"{path.name}: {name!r:.80}")
    return found


class _Places:
    """Places where MuJoCo may look for the files that a robot names."""

    def __init__(self, robot: Path) -> None:
        """Allow the folder of the robot's file, and the folders of meshes next to it."""
        home = robot.parent.resolve()
        self.bases: set[Path] = set()
        """Folders of the XML files, from any of which MuJoCo may look."""
        self._robot = robot
        self._allowed = (home, *(home.parent / name for name in _ASSET_FOLDERS))
        self._seen: dict[str, bool] = {}

    def find(self, name: str, folders: Collection[str] = ()) -> set[Path]:
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
        # MuJoCo drops the folders of a name in a URDF file, and where `strippath` says so.
        for stem in {plain, plain.rpartition("/")[2]}:
            for folder in ("", *folders):
                for base in self.bases:
                    place = os.path.join(base, folder.replace("\\", "/"), stem)
                    if place not in self._seen:
                        self._seen[place] = self._is_there(place, name)
                    if self._seen[place]:
                        found.add(Path(place))
        return found

    def _is_there(self, place: str, name: str) -> bool:
        shown = f"{self._robot.name} names the file {name!r:.80}"
        if len(self._seen) >= _MAX_PLACES:
            raise ValueError(f"{self._robot.name} names too many files in too many folders")
        target = Path(place)
        # MuJoCo drops a folder before ".." without following its links.
        for written in (target, Path(os.path.normpath(target))):
            try:
                resolved = written.resolve()
                is_there = target.exists() and not target.is_dir()
            except (OSError, RuntimeError) as error:
                raise ValueError(f"{shown}, which cannot be looked up") from error
            if not any(resolved.is_relative_to(root) for root in self._allowed):
                raise ValueError(f"{shown}, outside the robot's folder; put a copy beside it")
        if not is_there:
            return False
        if not target.is_file():
            raise ValueError(f"{shown}, which is no plain file")
        return True


def _add_cells(contents: _Contents, cells: int, shown: str) -> None:
    contents.num_cells += cells
    if contents.num_cells > _MAX_CELLS:
        raise ValueError(f"{shown} makes more than {_MAX_CELLS} pixels and points in all; make it smaller")


def _parse(path: Path, contents: _Contents) -> None:
    """Add what an XML file names to `contents`.

    Raises:
        ValueError: it has a document type, is not in UTF-8, is nested too deeply, or asks for an absurd size.
    """
    # Copies that the elements around the present one make of what is in them.
    copies = [1]
    data = stored_files.read_bytes(path, limit=_MAX_XML_BYTES)

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(copies) > _MAX_DEPTH:
            raise ValueError(f"{path.name}: <{tag}> is nested more than {_MAX_DEPTH} elements deep")
        try:
            robot_limits.check_values(tag, attributes)
            cells = robot_limits.cells(tag, attributes)
            contents.num_elements += robot_limits.weight(tag, attributes)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        made = copies[-1] * robot_limits.copies(tag, attributes)
        if made > _MAX_COPIES:
            raise ValueError(f"{path.name}: <{tag}> makes more than {_MAX_COPIES} copies")
        copies.append(made)
        contents.most_copies = max(contents.most_copies, made)
        num_copied = contents.num_elements * contents.most_copies
        if contents.num_elements > _MAX_ELEMENTS or num_copied > _MAX_COPIED_ELEMENTS:
            raise ValueError(f"{path.name} has too many elements, or copies them too often, at <{tag}>")
        _add_cells(contents, cells, f"{path.name}: <{tag}>")
        names = {key for key in attributes if key in _FOLDER_KEYS or _FILE_KEY.fullmatch(key)}
        if not names:
            return
        _check_names(path, tag, names, attributes, data, parser.CurrentByteIndex)
        _note_names(contents, tag, names, attributes)

    def end(_: str) -> None:
        copies.pop()

    def refuse(*_: object) -> None:
        raise ValueError(f"{path.name} declares a document type or an entity; remove the declaration")

    def declare(_version: str, encoding: str | None, _standalone: int) -> None:
        if (encoding or "utf-8").lower() not in _ENCODINGS:
            raise ValueError(f"{path.name} declares the encoding {encoding!r:.40}; save it as UTF-8")

    # MuJoCo takes every file for UTF-8, whatever it declares.
    parser = expat.ParserCreate("utf-8")
    parser.XmlDeclHandler = declare
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"{path.name} is no XML in UTF-8 ({error})") from error


def _note_names(contents: _Contents, tag: str, names: set[str], attributes: dict[str, str]) -> None:
    """Add the folders and files that the attributes `names` of an element name."""
    for key in names:
        if key in _FOLDER_KEYS:
            contents.folders.add(attributes[key])
        elif tag == "include" and key == "file":
            contents.includes.add(attributes[key])
        else:
            contents.files[attributes[key]] += 1


def _check_names(
    path: Path, tag: str, names: set[str], attributes: dict[str, str], data: bytes, start: int
) -> None:
    """Check that the names of files in the element at byte `start` mean the same to MuJoCo as they do here.

    Raises:
        ValueError: one has control characters, or is too long.
    """
    # Parsers of XML turn line breaks and tabs in attributes into spaces, and MuJoCo's does not.
    written = dict.fromkeys(names, "")
    position = start + 1 + len(tag.encode())
    while (match := _RAW_ATTRIBUTE.match(data, position)) is not None:
        written[match[1].decode()] = match[2].decode()
        position = match.end()
    for key in names:
        value = attributes[key]
        if not (value + written[key]).isprintable() or len(value) > _MAX_NAME:
            raise ValueError(
                f"{path.name}: <{tag} {key}={value!r:.40}> has control characters, or is too long, for a name"
            )
