"""A kernel file that is read repeatedly."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

# 64 KiB, far more than any of the files read here holds.
_MOST_BYTES = 1 << 16


class KernelFile:
    """A file opened once and read from its start every time: opening costs much more than reading."""

    def __init__(self, path: Path) -> None:
        """Open the file; it is closed when nothing refers to this object any more.

        Raises:
            OSError: If it cannot be opened.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor

    def read(self) -> str:
        """Return its present contents.

        Raises:
            OSError: If it cannot be read, for instance because its control group is gone.
        """
        # pread at offset 0 makes the kernel compute the contents anew, and is safe among threads.
        return os.pread(self._descriptor, _MOST_BYTES, 0).decode()
