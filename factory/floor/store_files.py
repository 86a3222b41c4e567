"""Files of a floor's store, checked before SQLite opens any of them, since the floor may be a stranger's.

SQLite trusts the files beside a database. It waits for a pipe that stands in the place of one, and deletes
the file that the end of a rollback journal names as super-journal, wherever that file is.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from factory.runtime import stored_files

_BESIDE = ("", "-journal", "-wal", "-shm")
_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""Last bytes of a journal that names a super-journal; see https://sqlite.org/fileformat2.html."""


def check(path: Path) -> None:
    """Check that SQLite may open the database at `path`.

    Raises:
        ValueError: it, or a file beside it, is a link, a pipe or a device, or its journal names another file.
    """
    for suffix in _BESIDE:
        file = path.with_name(f"{path.name}{suffix}")
        try:
            mode = os.lstat(file).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            raise ValueError(f"{file}: no plain file; remove it, or choose another --root")
    journal = path.with_name(f"{path.name}-journal")
    if os.path.lexists(journal):
        try:
            end = stored_files.read_tail(journal, limit=len(_MAGIC), follows_link=False)
        except ValueError:
            if not os.path.lexists(journal):
                # A process that is making the store just now has one for a moment.
                return
            raise
        # Only a transaction over several databases has one, and a floor has a single database.
        if end == _MAGIC:
            raise ValueError(f"{journal}: not the journal of a floor; choose another --root")
