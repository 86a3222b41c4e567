"""Files that somebody else may have written: opened only if they are plain, their folder's own and not huge.

A run folder is passed around, so nothing in it is trusted. Reading it must not wait for a pipe, fill the
memory, follow a link out of the folder or build objects; `SECURITY.md` says what the project promises.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from factory.runtime.atomic_write import atomic_write

MAX_JSON_BYTES = 8 << 20
"""A checkpoint's state has 30 KB; parsed values take up to 25 times the memory of their text."""
MAX_YAML_BYTES = 256 << 10
"""The parser reads about 100 KB a second."""
MAX_ROWS_BYTES = 1 << 30
"""Longest table that a run may have written, one row an iteration."""
MAX_ROWS = 2_000_000
MAX_ROW_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
MAX_DEPTH = 32
"""Levels of nesting; a configuration has 5."""
MAX_FOLDERS_DEEP = 16
"""Levels of folders in a run, and from the output root to a run."""
MAX_ENTRIES = 100_000
"""Files and folders in a run folder."""


def check_folder(folder: Path, *, key: str) -> None:
    """Check that a run folder holds nothing but plain files, folders, and links to its own entries.

    Later code may then read, replace and append to what it finds there. Nothing is opened.

    Args:
        folder: the run folder; it may be a link itself.
        key: key by which the user named it, for the error message.

    Raises:
        ValueError: it holds something else, named in the message.
    """
    root = folder.resolve()
    waiting = [root]
    count = 0
    while waiting:
        for entry in _entries(waiting.pop(), key=f"{key}={folder}"):
            count += 1
            if count > MAX_ENTRIES:
                raise ValueError(f"{key}={folder}: holds more than {MAX_ENTRIES} entries; give a run folder")
            path = Path(entry.path)
            inner = path.relative_to(root)
            shown = f"{key}={folder}: {inner}"
            if len(inner.parts) > MAX_FOLDERS_DEEP:
                raise ValueError(f"{key}={folder}: folders are nested too deeply; give a run folder")
            if entry.is_symlink():
                # A link that points nowhere harms as well: what is written to it lands outside.
                if not _leads_into(path, root):
                    raise ValueError(f"{shown} is a link out of the folder; remove it, or put a copy there")
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{shown} is {_kind(path)}, no plain file; remove it")


def find(root: Path, name: str) -> Iterator[Path]:
    """Yield the entries of a name in a folder and the folders below, `MAX_FOLDERS_DEEP` levels deep.

    Links to folders are not followed, and folders that cannot be read are left out.
    """
    level = [root]
    for _ in range(MAX_FOLDERS_DEEP):
        inner: list[Path] = []
        for folder in level:
            try:
                entries = list(os.scandir(folder))
            except OSError:
                continue
            for entry in entries:
                if entry.name == name:
                    yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    inner.append(Path(entry.path))
        level = inner


def detach(folder: Path) -> None:
    """Replace files that have a second name, perhaps outside the folder, by copies.

    Writing to such a hard link would change the file under its other name as well.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
            with atomic_write(path) as copy:
                shutil.copy2(path, copy)


def _leads_into(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (RuntimeError, OSError):
        # Links in a circle lead nowhere.
        return False


def _entries(folder: Path, *, key: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        # A run that is going on replaces checkpoints.
        return []
    except OSError as error:
        raise ValueError(f"{key}: {folder} cannot be read ({error.strerror})") from error


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def read_bytes(path: Path, *, limit: int) -> bytes:
    """Return the content of a plain file of at most `limit` bytes.

    Raises:
        ValueError: it is no plain file, is larger or cannot be read; the message begins with its name.
    """
    return read_with_time(path, limit=limit)[0]


def read_with_time(path: Path, *, limit: int, follows_link: bool = True) -> tuple[bytes, float]:
    """Return content and time of the last change [s since 1970] of one and the same plain file.

    Args:
        path: the file; whoever may replace it meanwhile gets the old one or the new one read, never both.
        limit: most bytes.
        follows_link: False to refuse a link, even one that has taken the file's place a moment ago.

    Raises:
        ValueError: as `read_bytes`.
    """
    with _opened(path, limit=limit, follows_link=follows_link) as file:
        status = os.fstat(file.fileno())
        # Reading `limit` bytes would take room for all of them at once.
        content = file.read(status.st_size + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name}: more than the {limit} bytes expected")
    return content, status.st_mtime


def read_tail(path: Path, *, limit: int, follows_link: bool = True) -> bytes:
    """Return the end of a plain file of any size, at most `limit` bytes.

    Raises:
        ValueError: it is no plain file or cannot be read; the message begins with its name.
    """
    with _opened(path, limit=sys.maxsize, follows_link=follows_link) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def no_link(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=no_link)`, which fails if a link or a pipe has taken its place."""
    # Without O_NONBLOCK a pipe would wait for somebody to read from it.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


@contextlib.contextmanager
def _opened(path: Path, *, limit: int, follows_link: bool = True) -> Iterator[BinaryIO]:
    """Open a plain file of at most `limit` bytes.

    Raises:
        ValueError: it is no plain file, is larger or cannot be read; the message begins with its name.
    """
    try:
        if not stat.S_ISREG(path.stat(follow_symlinks=follows_link).st_mode):
            raise ValueError(f"{path.name}: no plain file")
        # Without O_NONBLOCK a pipe that took the file's place would wait for somebody to write to it.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        if not follows_link:
            flags |= os.O_NOFOLLOW
        handle = os.open(path, flags)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path.name}: no plain file")
            if status.st_size > limit:
                raise ValueError(f"{path.name}: {status.st_size} bytes, more than the {limit} expected")
            yield file
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror or error}") from error


def read_pieces(path: Path) -> Iterator[bytes]:
    """Yield a plain file that is no link, piece by piece, up to the length that it has now.

    Raises:
        ValueError: as `read_bytes`.
    """
    with _opened(path, limit=sys.maxsize, follows_link=False) as file:
        # Whoever writes faster than it is shown would never let it end.
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece


def read_text(path: Path, *, limit: int) -> str:
    """Return the text of a file, as `read_bytes`; characters that are not UTF-8 are replaced."""
    return read_bytes(path, limit=limit).decode(errors="replace")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a table, one at a time; a line that is absurdly long comes in pieces.

    Raises:
        ValueError: as `read_bytes`, or there are too many lines.
    """
    with _opened(path, limit=MAX_ROWS_BYTES) as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES):
            number += 1
            if number > MAX_ROWS:
                raise ValueError(f"{path.name}: more than {MAX_ROWS} lines")
            yield line.decode(errors="replace").rstrip("\r\n")


def read_json(path: Path, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Return the values of a JSON file.

    Raises:
        ValueError: as `read_bytes`, or it is no JSON, or nested too deeply.
    """
    return parse_json(read_bytes(path, limit=limit), name=path.name)


def parse_json(content: bytes | str, *, name: str) -> Any:
    """Return the values in a JSON text; `name` is that of its file, for the error message."""
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError(f"{name}: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{name}: no JSON ({' '.join(str(error).split())})") from error
    _check_depth(value, name)
    return value


def read_yaml(path: Path) -> Any:
    """Return the values of a YAML file without aliases, tags and deep nesting.

    Raises:
        ValueError: as `read_bytes`, or it has one of these, or is no YAML.
    """
    return parse_yaml(read_bytes(path, limit=MAX_YAML_BYTES), name=path.name)


def parse_yaml(content: bytes | str, *, name: str) -> Any:
    """Return the values in a YAML text; `name` is that of its file, for the error message."""
    try:
        value = yaml.load(content, Loader=_PlainLoader)
    except RecursionError as error:
        raise ValueError(f"{name}: nested too deeply") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: no plain YAML ({' '.join(str(error).split())})") from error
    _check_depth(value, name)
    return value


class _PlainLoader(yaml.SafeLoader):
    """Builds plain values only, each of them once."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few nested aliases stand for billions of values as soon as somebody walks through them.
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not allowed")
        if event.tag is not None:
            raise ValueError("tags are not allowed")
        return super().compose_node(parent, index)


def visible(text: str) -> str:
    """Return a text whose control characters, newlines apart, are spelled out.

    A name from a stranger's file may hold sequences that move the cursor or change a terminal's title.
    """
    shown: list[str] = []
    for character in text:
        if character.isprintable() or character == "\n":
            shown.append(character)
        else:
            shown.append(repr(character)[1:-1])
    return "".join(shown)


def _check_depth(value: Any, name: str) -> None:
    """Raise ValueError where containers are nested beyond `MAX_DEPTH`: code that walks them calls itself."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return
        level = inner
    raise ValueError(f"{name}: nested too deeply")
