"""The operator's eyes on a run folder: new iterations, the newest checkpoint, and the tracker's outbox.

Only what has changed since the last look is read.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.operator.view import CheckpointView, Row
from factory.runtime import stored_files
from factory.runtime.plain_types import is_number
from factory.training.checkpoint_files import CHECKSUMS

_MOST_ROWS = 300
_MOST_NEW_ROWS = 8
"""Most rows that are parsed in a tick."""
_MOST_USUAL = 100
_WINDOW = 10
"""Iterations in a window of returns, at first."""
_MOST_WINDOWS = 65
"""Odd, since all but the first one are joined in pairs."""
_UNUSUAL_ROWS = 3
"""First iterations of an attempt, in which caches fill."""
_FIRST_BYTES = 256 << 10
_HEAD_BYTES = 64 << 10
"""Part of the metrics from which a resumed run's first returns are read."""
_MOST_BYTES = 1 << 20
_BAD = ("health/bad_samples", "health/skipped_steps", "health/rollbacks")
_OUTBOX = "tracking_pending.jsonl"
_MOST_SIZES = 200


class WindowMeans:
    """Means of windows that cover all values; when there are too many, neighbours are joined.

    The first window stays as it is, since it tells where learning began.
    """

    def __init__(self) -> None:
        """Begin without values."""
        self.means: list[float] = []
        """Means, oldest first."""
        self._size = _WINDOW
        self._open: list[float] = []

    def add(self, value: float) -> None:
        """Add a value to the last window."""
        self._open.append(value)
        if len(self._open) < self._size:
            return
        self.means.append(fmean(self._open))
        self._open.clear()
        if len(self.means) == _MOST_WINDOWS:
            pairs = zip(self.means[1::2], self.means[2::2], strict=True)
            self.means = [self.means[0], *map(fmean, pairs)]
            self._size *= 2


class RowHistory:
    """Iterations of one attempt: the newest ones, how long they usually take, and what they were worth."""

    def __init__(self) -> None:
        """Begin without iterations."""
        self.rows: deque[Row] = deque(maxlen=_MOST_ROWS)
        """Iterations, oldest first."""
        self.usual: list[float] = []
        """Durations of iterations spread evenly over the attempt [s]."""
        self.returns = WindowMeans()
        """Mean returns over the whole attempt."""
        self._num_rows = 0
        self._stride = 1

    def add(self, row: Row) -> None:
        """Keep an iteration; of durations every so many, of too many every second."""
        self.rows.append(row)
        if row.return_mean is not None:
            self.returns.add(row.return_mean)
        self._num_rows += 1
        if self._num_rows <= _UNUSUAL_ROWS or self._num_rows % self._stride:
            return
        self.usual.append(row.iteration_s)
        if len(self.usual) > _MOST_USUAL:
            del self.usual[::2]
            self._stride *= 2


class RunFiles:
    """Follows the files of one attempt."""

    def __init__(self, run_dir: Path) -> None:
        """Follow a run folder, which need not exist yet."""
        self._run_dir = run_dir
        self._offset = -1
        self._rest = b""
        self._last: dict[str, float] = {}
        self.history = RowHistory()
        self.outbox: deque[tuple[float, float]] = deque(maxlen=_MOST_SIZES)
        """Time [s] and size [byte] of the outbox since it was last empty or shrank."""
        self._checkpoint = CheckpointView()
        self._target = ""
        self._written_at = math.inf
        self._wanted: dict[str, int] = {}
        """Sizes of the files of the newest checkpoint, as its checksum file says [byte]."""

    def read(self, now_s: float) -> None:
        """Read what is new.

        Args:
            now_s: monotonic time.
        """
        lines = self._new_lines()
        # Counts and times are totals, so that the newest rows of a line with hundreds a second tell enough.
        if self._last:
            lines = lines[-_MOST_NEW_ROWS:]
        for line in lines:
            row = self._row(line, now_s)
            if row is not None:
                self.history.add(row)
        # A server that takes messages shrinks the file; only growth without a break says that it does not.
        size = _size(self._run_dir / _OUTBOX)
        if size <= 0 or (self.outbox and size < self.outbox[-1][1]):
            self.outbox.clear()
        if size > 0:
            self.outbox.append((now_s, float(size)))

    def checkpoint(self) -> CheckpointView:
        """Return the newest checkpoint; its files are looked at in every call, its contents never."""
        folder = self._run_dir / "checkpoints"
        try:
            target = os.readlink(folder / "last")
            written_at = (folder / target / CHECKSUMS).stat().st_mtime
        except OSError:
            return self._checkpoint
        # Known from the second checkpoint on; the operator then keeps away from the next one.
        interval_s = self._checkpoint.interval_s
        if target != self._target and self._target:
            interval_s = written_at - self._written_at
        if (target, written_at) != (self._target, self._written_at):
            # This runs for every line in every tick, and the file changes seldom.
            self._wanted = _wanted_bytes(folder / target)
        self._target = target
        self._written_at = written_at
        missing = _missing_bytes(folder / target, self._wanted)
        self._checkpoint = CheckpointView(
            steps=int(target) if target.isdecimal() else 0,
            age_s=max(0.0, time.time() - written_at),
            is_whole=missing == 0,
            missing_bytes=missing,
            size_bytes=sum(self._wanted.values()),
            is_being_written=_holds_unfinished(folder),
            interval_s=interval_s,
        )
        return self._checkpoint

    def _new_lines(self) -> list[bytes]:
        """Return the whole lines that were added to the metrics since the last look."""
        path = self._run_dir / "metrics.jsonl"
        size = _size(path)
        # Nothing new: this runs for every line in every tick.
        if size == self._offset or size < 0:
            return []
        if self._offset < 0 or size < self._offset:
            # A resumed run cuts its metrics back to the checkpoint.
            self._rest = b""
            self._offset = max(0, size - _FIRST_BYTES)
            self._read_head()
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                content = self._rest + file.read(_MOST_BYTES)
                self._offset = file.tell()
        except OSError:
            return []
        # The last piece is a line that is still being written, or empty.
        *lines, self._rest = content.split(b"\n")
        if len(self._rest) > _MOST_BYTES:
            # No row is that long; without its end it would grow in memory.
            self._rest = b""
        return lines

    def _read_head(self) -> None:
        """Read the run's first returns, as far as they lie before the part that is read as a whole.

        What a run has learned is measured from its beginning, also after a restart.
        """
        try:
            with (self._run_dir / "metrics.jsonl").open("rb") as file:
                head = file.read(min(self._offset, _HEAD_BYTES))
        except OSError:
            return
        for line in head.split(b"\n")[:-1]:
            value = _optional(_metrics(line), "train/return_mean")
            if value is not None:
                self.history.returns.add(value)

    def _row(self, line: bytes, now_s: float) -> Row | None:
        metrics = _metrics(line)
        if not metrics:
            return None
        found = {key: _number(metrics, key) for key in ("time/wall_s", "factory/iterations")}
        before = self._last
        self._last = found
        num_iterations = found["factory/iterations"] - before.get("factory/iterations", 0.0)
        spent_s = found["time/wall_s"] - before.get("time/wall_s", 0.0)
        if not before or num_iterations <= 0.0 or spent_s <= 0.0:
            return None
        iteration_s = spent_s / num_iterations
        return Row(
            seen_s=now_s,
            steps=int(_number(metrics, "factory/env_steps")),
            iteration_s=iteration_s,
            tokens_per_s=_number(metrics, "factory/tokens_per_s"),
            return_mean=_optional(metrics, "train/return_mean"),
            approx_kl=_number(metrics, "loss/approx_kl"),
            num_bad=sum(_number(metrics, key) for key in _BAD),
            has_reached_threshold="factory/seconds_to_threshold" in metrics,
        )


def _metrics(line: bytes) -> dict[str, Any]:
    """Return the metrics of a row; empty if it is none, as where it was cut."""
    try:
        metrics = json.loads(line)["metrics"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    if not isinstance(metrics, dict):
        return {}
    return metrics


def _size(path: Path) -> int:
    """Return the size of a file [byte], -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _wanted_bytes(folder: Path) -> dict[str, int]:
    """Return the sizes of the files of a checkpoint by its checksum file; empty if that cannot be read."""
    try:
        listed = stored_files.read_json(folder / CHECKSUMS)["files"]
        return {str(name): int(entry["bytes"]) for name, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}


def _holds_unfinished(folder: Path) -> bool:
    try:
        return any(name.endswith(".tmp") for name in os.listdir(folder))
    except OSError:
        return False


def _missing_bytes(folder: Path, wanted: dict[str, int]) -> int:
    """Return the number of bytes by which the files of a checkpoint differ from those that were written."""
    # A folder that was pruned a moment ago is no damage.
    if not folder.is_dir():
        return 0
    if not wanted:
        return 1
    return sum(abs(max(0, _size(folder / name)) - size) for name, size in wanted.items())


def _optional(metrics: dict[str, Any], key: str) -> float | None:
    value = metrics.get(key)
    if is_number(value):
        return float(value)
    return None


def _number(metrics: dict[str, Any], key: str) -> float:
    return _optional(metrics, key) or 0.0
