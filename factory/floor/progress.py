"""Progress of a line, read from the files of its run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.runtime import stored_files
from factory.runtime.plain_types import is_number

_TAIL_BYTES = 16 << 10
"""A row of metrics has 2 KiB."""
_WINDOW = 5
"""Rows over which the speed is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of a run, as its files tell it."""

    steps: int = 0
    """Environment steps of the newest row of metrics."""
    kept_steps: int = 0
    """Environment steps of the newest checkpoint."""
    tokens: int = 0
    tokens_per_s: float = 0.0
    """Control tokens a second over the last rows, by the run's own clock, which leaves out pauses."""
    written_at: float = 0.0
    """Time of the newest row, in seconds since 1970; 0 before the first."""


def read(run_dir: Path) -> Progress:
    """Return the progress of a run; zeros where there is none yet."""
    rows = _last_rows(run_dir / "metrics.jsonl")
    kept = kept_steps(run_dir)
    if not rows:
        return Progress(kept_steps=kept)
    newest = rows[-1]
    first = rows[0]
    # Over the last rows: the mean of the whole run would hide that a line has become slow.
    spent_s = _metric(newest, "time/wall_s") - _metric(first, "time/wall_s")
    tokens = _metric(newest, "factory/tokens_total")
    speed = _metric(newest, "factory/tokens_per_s")
    if spent_s > 0.0:
        speed = (tokens - _metric(first, "factory/tokens_total")) / spent_s
    return Progress(
        steps=int(_metric(newest, "factory/env_steps")),
        kept_steps=kept,
        tokens=int(tokens),
        tokens_per_s=speed,
        written_at=_number(newest.get("time_unix_s")),
    )


def kept_steps(run_dir: Path) -> int:
    """Return the environment steps of the newest checkpoint; 0 without one."""
    try:
        # Checkpoints are named by their steps, and `last` is a link to the newest.
        return int((run_dir / "checkpoints" / "last").readlink().name)
    except (OSError, ValueError):
        return 0


def _last_rows(path: Path) -> list[dict[str, Any]]:
    """Return the newest rows of metrics, oldest first."""
    try:
        lines = stored_files.read_tail(path, limit=_TAIL_BYTES).splitlines()
    except ValueError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines[-_WINDOW - 1 :]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            # The first line may be cut, and the last one may be half written.
            continue
        if isinstance(row, dict) and isinstance(row.get("metrics"), dict):
            rows.append(row)
    return rows


def _metric(row: dict[str, Any], key: str) -> float:
    return _number(row["metrics"].get(key))


def _number(value: Any) -> float:
    return float(value) if is_number(value) else 0.0


def summary_status(run_dir: Path) -> str:
    """Return `status` of the run's summary: finished, interrupted, failed; empty without one."""
    try:
        return str(stored_files.read_json(run_dir / "summary.json").get("status", ""))
    except (ValueError, AttributeError):
        return ""
