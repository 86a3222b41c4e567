"""Energy from a recording: CSV or JSON lines of cumulative joules over time."""

from __future__ import annotations

import csv
import json
import time
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from factory.energy.sources.base import SourceUnavailable
from factory.energy.types import COMPONENTS, Boundary, Capability, Interval, Reading, Tier
from factory.energy.uncertainty import expanded_j

_GAIN_U = 0.05


class ReplaySource:
    """Play a recorded trace against the run's own clock, interpolated linearly.

    Columns: rising `t_s`, any of the cumulative `cpu_j`, `gpu_j`, `dram_j`, and `lo_j`, `hi_j` if the
    recording has bounds. Where the trace has ended nothing is added and the time is counted as lost.
    """

    name = "replay"

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """Remember the file; it is read when the source is opened."""
        self._path = Path(path)
        self._clock_ns = clock_ns

    def open(self) -> Capability:
        """Read the trace and start it now."""
        rows = self._load()
        if len(rows) < 2 or any("t_s" not in row or row.keys() != rows[0].keys() for row in rows):
            raise self._broken("needs two rows or more, each with t_s and the same columns")
        self._times_s = [row["t_s"] - rows[0]["t_s"] for row in rows]
        if any(b <= a for a, b in pairwise(self._times_s)):
            raise self._broken("t_s must rise")
        columns = [key for key in (*(f"{name}_j" for name in COMPONENTS), "lo_j", "hi_j") if key in rows[0]]
        self._columns = {key: [row[key] - rows[0][key] for row in rows] for key in columns}
        self._components = tuple(name for name in COMPONENTS if f"{name}_j" in columns)
        if not self._components:
            raise self._broken("needs a column cpu_j, gpu_j or dram_j")
        self._start_ns = self._clock_ns()
        return Capability(
            source=self.name,
            tier=Tier.REPLAYED,
            boundary=Boundary.ALLOCATION,
            components=self._components,
            period_s=max(b - a for a, b in pairwise(self._times_s)),
            poll_s=None,
            keys=(str(self._path),),
            details=(f"energy of another run, from {self._path}: {self._times_s[-1]:g} s",),
        )

    def read(self) -> Reading:
        """Return the trace's cumulative energy at the present time of the run."""
        t_ns = self._clock_ns()
        elapsed_s = (t_ns - self._start_ns) * 1e-9
        components_j = {name: self._at(elapsed_s, f"{name}_j") for name in self._components}
        total_j = sum(components_j.values())
        bounds = Interval.around(total_j, half_width=expanded_j(_GAIN_U * total_j))
        lo_j = self._at(elapsed_s, "lo_j") if "lo_j" in self._columns else bounds.lo
        hi_j = self._at(elapsed_s, "hi_j") if "hi_j" in self._columns else bounds.hi
        lost_s = max(0.0, elapsed_s - self._times_s[-1])
        return Reading(t_ns, self.name, Tier.REPLAYED, components_j, lo_j, hi_j, lost_s)

    def close(self) -> None:
        """Hold nothing open."""

    def _at(self, elapsed_s: float, column: str) -> float:
        times_s, values_j = self._times_s, self._columns[column]
        if elapsed_s >= times_s[-1]:
            return values_j[-1]
        right = bisect_right(times_s, elapsed_s)
        left = right - 1
        share = (elapsed_s - times_s[left]) / (times_s[right] - times_s[left])
        return values_j[left] + share * (values_j[right] - values_j[left])

    def _load(self) -> list[dict[str, float]]:
        try:
            with self._path.open(newline="") as file:
                rows = (
                    [json.loads(line) for line in file if line.strip()]
                    if self._path.suffix == ".jsonl"
                    else list(csv.DictReader(file))
                )
            return [{key: float(value) for key, value in row.items()} for row in rows]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self._broken(str(error)) from error

    def _broken(self, why: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"energy.replay_path={self._path}: {why}",
            remedy="give a .csv or .jsonl with t_s and cumulative cpu_j, gpu_j, dram_j",
        )
