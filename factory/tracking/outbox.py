"""Queue of metrics and files for the tracking server, in a file, so that it survives kill -9."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write
from factory.tracking.journal import trim_torn_line
from factory.tracking.updates import Update, parse

log = logging.getLogger("factory.tracking")


class Outbox:
    """First in, first out, one JSON line an update; one thread puts, another reads and drops.

    The read position lives in memory and the file is removed when the last update is dropped. After a kill
    the whole file is therefore delivered again, so delivery has to be idempotent.

    Every line is checked when it is read. A bad one goes to `<name>.rejected` and stops no other.
    """

    def __init__(self, path: Path, *, check: Callable[[bytes], Update] = parse) -> None:
        """Open the queue at `path` with what an earlier process left in it.

        Args:
            path: file of the queue.
            check: turns a line into an update, or raises ValueError.
        """
        self.path = path
        self._check = check
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

    def leave_out(self, kind: str) -> int:
        """Remove the updates of a kind that an earlier process left; return their number.

        Nothing may have been put or dropped yet.
        """
        lines = self._lines(self._count)
        kept = [line for line in lines if not self._is_of_kind(line, kind)]
        if len(kept) < len(lines):
            with atomic_write(self.path) as unfinished:
                unfinished.write_bytes(b"".join(kept))
            self._count = len(kept)
        return len(lines) - len(kept)

    def put(self, update: Update) -> None:
        """Add an update at the end."""
        # Anything that JSON lacks, such as a path in a tag, is sent as text.
        line = json.dumps(update, default=str) + "\n"
        with self._lock:
            with open(self.path, "a", encoding="utf-8", opener=stored_files.no_link) as file:
                file.write(line)
            self._count += 1

    def peek(self, limit: int) -> list[Update]:
        """Return up to `limit` updates from the front without removing them.

        Bad lines at the front are set aside. The updates end before a bad line further back, which is then at
        the front later.
        """
        updates: list[Update] = []
        for line in self._lines(limit):
            try:
                updates.append(self._check(line))
            except ValueError as reason:
                if updates:
                    break
                self._set_aside(line, str(reason))
        return updates

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

    def _is_of_kind(self, line: bytes, kind: str) -> bool:
        try:
            return self._check(line)["kind"] == kind
        except ValueError:
            return False

    def _set_aside(self, line: bytes, reason: str) -> None:
        """Move the line at the front into the file of rejected ones."""
        rejected = self.path.with_name(f"{self.path.name}.rejected")
        with open(rejected, "ab", opener=stored_files.no_link) as file:
            file.write(line)
        log.warning("%s: a line is set aside in %s (%s)", self.path, rejected.name, reason)
        self.drop(1)

    def _lines(self, limit: int) -> list[bytes]:
        # Bytes, so that the lengths of the lines are offsets in the file.
        with self._lock:
            count = min(limit, self._count)
            if count == 0:
                return []
            lines: list[bytes] = []
            with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
                file.seek(self._offset)
                lines = list(itertools.islice(file, count))
            if len(lines) < count:
                # Somebody has deleted the file, perhaps with the whole run.
                log.warning(
                    "%s was deleted before it was sent; updates lost: %d", self.path, count - len(lines)
                )
                self._count = len(lines)
            return lines
