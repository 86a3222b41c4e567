"""Atomic file writes."""

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
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
