"""Queue of metrics and files for the tracking server, in a file, so that it survives kill -9."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from factory.tracking.journal import trim_torn_line

Update = dict[str, Any]
"""One update for the server: `{"kind": ..., "time_ms": ...}` and the content of that kind."""


class Outbox:
    """First in, first out, one JSON line an update; one thread puts, another reads and drops.

    The read position lives in memory and the file is removed when the last update is dropped. After a kill
    the whole file is therefore delivered again, so delivery has to be idempotent.
    """

    def __init__(self, path: Path) -> None:
        """Open the queue at `path` with the updates that an earlier process left in it."""
        self.path = path
        self._lock = threading.Lock()
        self._offset = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        trim_torn_line(path)
        self._count = 0
        if path.exists():
            self._count = path.read_bytes().count(b"\n")

    def __len__(self) -> int:
        """Return the number of updates waiting."""
        return self._count

    def put(self, update: Update) -> None:
        """Add an update at the end."""
        # Anything that JSON lacks, such as a path in a tag, is sent as text.
        line = json.dumps(update, default=str) + "\n"
        with self._lock:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
            self._count += 1

    def peek(self, limit: int) -> list[Update]:
        """Return up to `limit` updates from the front without removing them."""
        return [json.loads(line) for line in self._lines(limit)]

    def drop(self, count: int) -> None:
        """Remove `count` updates from the front."""
        # Read outside the lock: only this thread moves the front, and `put` only appends.
        lines = self._lines(count)
        with self._lock:
            self._offset += sum(map(len, lines))
            self._count -= len(lines)
            # The file only grows while updates wait; an empty queue has no file.
            if self._count == 0:
                self.path.unlink(missing_ok=True)
                self._offset = 0

    def _lines(self, limit: int) -> list[bytes]:
        # Bytes, so that the lengths of the lines are offsets in the file.
        with self._lock:
            count = min(limit, self._count)
            if count == 0:
                return []
            with self.path.open("rb") as file:
                file.seek(self._offset)
                return [file.readline() for _ in range(count)]
