"""Errors of the floor's store, in words that say what to do."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from factory.runtime.decoding import MismatchError

_TROUBLES = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors of SQLite that have their cause outside of the file; after all others its content is at fault."""
_LEAST_FREE_BYTES = 64 * 1024
"""With less space than this, SQLite cannot write its side files and speaks of a disk I/O error [byte]."""


class StoreError(OSError):
    """The store could not be read or written; nothing that was finished is lost."""


@contextlib.contextmanager
def store_faults(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk, and values of the wrong type, into lines that say what to do."""
    try:
        yield
    except (sqlite3.DatabaseError, MismatchError) as error:
        if _is_trouble(error):
            reason = _disk_trouble(path.parent) or str(error)
            raise StoreError(f"{path}: {reason}; mend that, then run the command again") from error
        raise ValueError(
            f"{path}: damaged ({error}); put back a copy, or move it away and submit the lines again"
        ) from error
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; choose another --root, or mend that") from error


def _is_trouble(error: Exception) -> bool:
    """Tell whether the machine, and not the content of the file, is at fault."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Errors of Python's module itself, of which only that of a text is about the content.
        return isinstance(error, sqlite3.OperationalError) and "decode" not in str(error)
    # The low byte is the kind of error, the others say more about it.
    return code & 0xFF in _TROUBLES


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
