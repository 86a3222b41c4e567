"""The lock of a floor: one process runs it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.runtime import stored_files

_FILE = "floor.lock"


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock inside the block; the system lets go of it when the process ends, however it ends.

    Raises:
        ValueError: another process runs this floor; it is named.
        OSError: the file cannot be written.
    """
    with open(root / _FILE, "a+", opener=stored_files.no_link) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = owner(root)
            where = f"process {found.get('pid', '?')} on {found.get('host', '?')}"
            raise ValueError(
                f"root={root}: {where} runs this floor; stop it first, or choose another --root"
            ) from error
        # Only the holder writes: opened to append, a file that another process holds stays as it is.
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}, file)
        file.flush()
        yield


def is_held(root: Path) -> bool:
    """Return whether a process runs the floor."""
    try:
        with open(root / _FILE, "rb", buffering=0, opener=stored_files.no_link) as file:
            # A shared lock, so that two commands that ask at once do not take each other for a floor.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def owner(root: Path) -> dict[str, Any]:
    """Return the process that holds, or last held, the lock; empty if unknown."""
    try:
        found = stored_files.read_json(root / _FILE, limit=4096)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return found
