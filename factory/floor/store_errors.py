"""Errors of the floor's store, in words that say what to do."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_LEAST_FREE_BYTES = 64 * 1024
"""With less space than this, SQLite cannot write its side files and speaks of a disk I/O error [byte]."""


class StoreError(OSError):
    """The store could not be read or written; nothing that was finished is lost."""


@contextlib.contextmanager
def store_faults(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into lines that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = _disk_trouble(path.parent) or str(error)
        raise StoreError(f"{path}: {reason}; mend that, then run the command again") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{path}: damaged ({error}); put back a copy, or move it away and submit the lines again"
        ) from error
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; choose another --root, or mend that") from error


def _disk_trouble(folder: Path) -> str:
    """Return the fault of a folder's disk, which SQLite does not name; empty if there is none."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    if disk.f_flag & os.ST_RDONLY:
        return "the disk is read-only"
    if disk.f_bavail * disk.f_frsize < _LEAST_FREE_BYTES:
        return "the disk is full"
    return ""
