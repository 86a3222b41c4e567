"""The local record of a run's figures: one JSON object a line, `metrics.jsonl` in the run folder."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from factory.runtime.atomic_write import atomic_write
from factory.runtime.strict_json import nan_to_none


def trim_torn_line(path: Path) -> None:
    """Cut off a last line without its newline, which is what a kill in mid-write leaves behind."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


class Journal:
    """Append-only rows `{"step", "time_unix_s", "metrics"}`; the report and the charts are drawn from it.

    JSON has no NaN or infinity, so such a figure is written as `null` and read back as NaN.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, creating its folder; rows already there are kept."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        trim_torn_line(path)

    def append(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row; it is in the hands of the operating system on return, so it survives kill -9.

        Args:
            metrics: Figures by key, unit in the key.
            step: Environment steps taken so far.
        """
        values = nan_to_none({key: float(value) for key, value in metrics.items()})
        row = {"step": int(step), "time_unix_s": time.time(), "metrics": values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def truncate_after(self, step: int) -> None:
        """Drop every row beyond `step`: a resumed run will write them again."""
        kept = [row for row in self._raw_rows() if row["step"] <= step]
        with atomic_write(self.path) as unfinished:
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in the order they were written, `null` figures as NaN."""
        for row in self._raw_rows():
            values = row["metrics"].items()
            yield {**row, "metrics": {k: math.nan if v is None else float(v) for k, v in values}}

    def _raw_rows(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)
