"""A file of the kernel that is read again and again."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

_MOST_BYTES = 1 << 16


class KernelFile:
    """Opened once and read from its start every time: opening costs several times what reading does."""

    def __init__(self, path: Path) -> None:
        """Open the file; it is closed when nothing refers to this object any more.

        Raises:
            OSError: If it cannot be opened.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor

    def read(self) -> str:
        """Return what it holds now.

        Raises:
            OSError: If it cannot be read, for instance because its control group is gone.
        """
        return os.pread(self._descriptor, _MOST_BYTES, 0).decode()
