"""Atomic file writes, and writes that survive a power failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` at the end, or is removed if writing fails.

    The folder has to be there: one that was deleted on purpose must not come back with a single file in it.
    """
    # In the same folder: renaming is atomic only within one file system. The process id keeps two writers
    # apart.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    # In a stranger's folder a link of this name may wait for whoever writes through it.
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_durably(path: Path, text: str) -> None:
    """Write a file so that it is whole or as it was before, also after a power failure."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text)
        sync(unfinished)
    # The new name is on the disk only once the folder is.
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk.

    Without it, a power failure may leave a renamed file without its contents.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
