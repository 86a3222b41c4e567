"""The journal of changed settings that outlive their process, so that they are put back after any end of it.

A board has a lock and at most one entry. The entry is on disk before the first write to the board. The kernel
releases the lock when its holder dies, however it dies: an entry whose lock is free was left behind.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from factory.power.actuator import Refused
from factory.runtime import stored_files
from factory.runtime.atomic_write import sync, write_durably
from factory.runtime.plain_types import check_mapping
from factory.runtime.state_folder import state_folder

_UUID = re.compile(r"[\w-]{1,80}")


def boot_id() -> str:
    """Return the id of the present boot of this machine, empty where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One changed setting of a board."""

    device_uuid: str
    actuator: str
    original: Any
    """Value to put back."""
    asked: Any
    written: Any = None
    """The setting as read back after the write; None if the process died before that."""
    is_read_back: bool = False
    boot_id: str = field(default_factory=boot_id)
    pid: int = field(default_factory=os.getpid)
    time_unix_s: float = field(default_factory=time.time)


class Journal:
    """Entries of all boards, each in a file of its own."""

    def __init__(self, folder: Path | None = None) -> None:
        """Name the folder; the user's state folder if None. Nothing is written."""
        self.folder = folder or state_folder() / "power"

    def uuids(self) -> list[str]:
        """Return the boards that have an entry."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def claim(self, uuid: str) -> Page:
        """Take the page of a board, which nobody else can have until it is closed.

        Raises:
            Refused: a process that is alive holds it, or the folder cannot be written.
        """
        if not _UUID.fullmatch(uuid):
            raise Refused(f"{uuid!r:.100} is no UUID of a board")
        try:
            # Imported here: Windows has no such locks.
            import fcntl

            self.folder.mkdir(parents=True, exist_ok=True)
            # Lock files stay: one that is removed while somebody waits for it would be locked twice.
            lock = os.open(self.folder / f"{uuid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, ImportError) as error:
            raise Refused(f"no journal of changed settings in {self.folder}: {error}") from error
        try:
            # Without waiting: a board that another run holds is left alone.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise Refused(f"another process holds the settings of {uuid}") from error
        return Page(self.folder / f"{uuid}.json", lock)


class Page:
    """The entry of one board, held by this process."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def read(self) -> Entry | None:
        """Return the entry, None if there is none.

        Raises:
            ValueError: it is malformed.
        """
        if not self.path.exists():
            return None
        values = stored_files.read_json(self.path, limit=1 << 16)
        check_mapping(values, Entry, name=self.path.name)
        return Entry(**{key: values[key] for key in Entry.__dataclass_fields__})

    def write(self, entry: Entry) -> None:
        """Put the entry on disk, for certain, in place of the one before.

        Raises:
            Refused: the disk does not take it.
        """
        try:
            write_durably(self.path, json.dumps(asdict(entry)))
        except OSError as error:
            raise Refused(
                f"no journal of changed settings in {self.path.parent}: {error.strerror}"
            ) from error

    def remove(self) -> None:
        """Remove the entry: nothing is left to put back."""
        self.path.unlink(missing_ok=True)
        # A removal is on disk once the folder is.
        sync(self.path.parent)

    def close(self) -> None:
        """Let others have the page."""
        os.close(self._lock)
