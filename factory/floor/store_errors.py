"""Errors of the floor's store, in words that say what to do."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


class StoreError(OSError):
    """The store could not be read or written; nothing that was finished is lost."""


@contextlib.contextmanager
def store_faults(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into lines that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path}: {error}; mend that, then run the command again") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{path}: damaged ({error}); put back a copy, or move it away and submit the lines again"
        ) from error
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; choose another --root, or mend that") from error
