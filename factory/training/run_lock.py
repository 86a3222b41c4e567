"""The lock of a run folder: one process writes to it at a time. Importing this loads no torch."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from factory.runtime import stored_files

_NAME = ".lock"


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run folder inside the block.

    Raises:
        ValueError: another process holds it.
    """
    check_free(run_dir, key="run folder")
    path = run_dir / _NAME
    path.unlink(missing_ok=True)
    try:
        with path.open("x") as file:
            json.dump(_owner_of(os.getpid()), file)
    except FileExistsError:
        # Another process was faster between the check and here.
        check_free(run_dir, key="run folder")
        raise
    try:
        yield
    finally:
        release(run_dir)


def release(run_dir: Path) -> None:
    """Remove the lock of a run folder if this process holds it."""
    path = run_dir / _NAME
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if stored_files.read_json(path)["pid"] == os.getpid():
            path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove the lock of a process that is gone."""
    (folder / _NAME).unlink(missing_ok=True)


def check_free(run_dir: Path, *, key: str) -> None:
    """Raise ValueError if a process that is alive, or one on another host, writes to `run_dir`."""
    try:
        owner = stored_files.read_json(run_dir / _NAME)
        host = str(owner["host"])
        pid = int(owner["pid"])
        started = owner["started"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return
    if host == socket.gethostname():
        if pid == os.getpid() or _owner_of(pid)["started"] != started:
            # The process ended without removing the lock, and its number may belong to another one now.
            return
        remedy = "wait for it, or stop it"
    else:
        remedy = f"wait for it, or remove {run_dir / _NAME} if it is gone"
    raise ValueError(f"{key}={run_dir}: process {pid} on {host} writes to this run; {remedy}")


def release_lost(run_dir: Path, *, host: str) -> None:
    """Remove the lock of a process on a host that is known to be gone."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if stored_files.read_json(run_dir / _NAME)["host"] == host:
            (run_dir / _NAME).unlink(missing_ok=True)


def abandoned(output_root: Path) -> list[Path]:
    """Return the run folders whose process ended on this host without removing its lock, as kill -9 does."""
    found: list[Path] = []
    for path in sorted(stored_files.find(output_root, _NAME)):
        try:
            owner = stored_files.read_json(path)
            is_here = owner["host"] == socket.gethostname()
            is_alive = _owner_of(int(owner["pid"]))["started"] == owner["started"]
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
        if is_here and not is_alive:
            found.append(path.parent)
    return found


def _owner_of(pid: int) -> dict[str, Any]:
    """Return the description of a process; a start time of None if there is no such process."""
    try:
        started = psutil.Process(pid).create_time()
    except (psutil.Error, ValueError, OverflowError):
        started = None
    return {"host": socket.gethostname(), "pid": pid, "started": started}
