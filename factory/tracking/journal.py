"""The local record of a run's metrics: `metrics.jsonl` in the run folder, one JSON object a line."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write
from factory.runtime.plain_types import conforms
from factory.runtime.strict_json import nan_to_none

log = logging.getLogger("factory.tracking")

_BLOCK_BYTES = 1 << 20


def trim_torn_line(path: Path) -> None:
    """Cut off a last line without newline, the trace of a kill in the middle of a write."""
    if not path.exists():
        return
    # In place, without a copy: the file may be large, and cutting its end is atomic.
    with open(path, "r+b", opener=stored_files.no_link) as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end:
            begin = max(0, end - _BLOCK_BYTES)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end < size:
            file.truncate(end)


class Journal:
    """Append-only rows `{"step", "time_unix_s", "metrics"}`, the source of report and charts.

    JSON has no NaN or infinity, so such a value is written as `null` and read back as NaN.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, creating its folder; rows already there are kept."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        trim_torn_line(path)

    def append(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row; the operating system has it on return, so it survives kill -9.

        Args:
            metrics: Values by key, unit in the key.
            step: Environment steps taken so far.
        """
        values = nan_to_none({key: float(value) for key, value in metrics.items()})
        row = {"step": int(step), "time_unix_s": time.time(), "metrics": values}
        with open(self.path, "a", encoding="utf-8", opener=stored_files.no_link) as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def append_last(self, metrics: Mapping[str, float], step: int) -> None:
        """Add the row at the end of the run, in place of that of an earlier end at the same step.

        The row of the iteration at `step` stays, and so do the ends at other steps.
        """
        kept = list(self._raw_rows())
        at_step = [index for index, row in enumerate(kept) if row["step"] == step]
        if len(at_step) > 1:
            # A run that was killed in its last stages goes through them again.
            self._rewrite([row for index, row in enumerate(kept) if index not in at_step[1:]])
        self.append(metrics, step)

    def truncate_after(self, step: int) -> None:
        """Drop every row after `step`: a resumed run will write them again."""
        self._rewrite([row for row in self._raw_rows() if row["step"] <= step])

    def _rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        # Through a second file: a kill in mid-write must not cost the rows that stay.
        with atomic_write(self.path) as unfinished:
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in the order in which they were written, with NaN for `null`."""
        for row in self._raw_rows():
            metrics = {key: math.nan for key in row["metrics"]}
            metrics |= {key: float(value) for key, value in row["metrics"].items() if value is not None}
            yield {**row, "metrics": metrics}

    def _raw_rows(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            damaged = 0
            for line in stored_files.read_lines(self.path):
                row = _row(line)
                if row is None:
                    damaged += 1
                else:
                    yield row
            if damaged:
                log.warning("%s: %d damaged lines are left out", self.path, damaged)


def _row(line: str) -> dict[str, Any] | None:
    """Return the row on one line, None if it is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not conforms(row.get("step"), int):
        return None
    return row if conforms(row.get("metrics"), dict[str, float | None]) else None
