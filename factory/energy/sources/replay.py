"""Energy from a recording: CSV or JSON lines of cumulative joules over time."""

from __future__ import annotations

import csv
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

from factory.energy.sources.base import EnergySource, SourceUnavailable
from factory.energy.types import COMPONENTS, Boundary, Capability, Interval, Reading, Tier
from factory.energy.uncertainty import expanded_j

if TYPE_CHECKING:
    from factory.energy.config import EnergyConfig

_GAIN_U = 0.05
"""Relative standard uncertainty assumed for recordings without bounds: that of the counters they come from.
"""


class ReplaySource(EnergySource):
    """A recorded trace played against the run's own clock, interpolated linearly.

    Columns: rising `t_s`, any of the cumulative `cpu_j`, `gpu_j`, `dram_j`, and `lo_j`, `hi_j` if the
    recording has bounds. After the end of the trace nothing is added, and the time counts as lost.
    """

    name = "replay"
    title = "replay"
    components = COMPONENTS
    reads_this_machine = False

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """Keep the path; the file is read when the source is opened."""
        self._path = Path(path)
        self._clock_ns = clock_ns

    @classmethod
    def from_config(cls, cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Self:
        """Play `energy.replay_path`."""
        return cls(Path(cfg.replay_path))

    def open(self) -> Capability:
        """Read the trace and start it now."""
        rows = self._load()
        has_times = all("t_s" in row and row.keys() == rows[0].keys() for row in rows)
        if len(rows) < 2 or not has_times:
            raise self._broken("needs two rows or more, each with t_s and the same columns")
        first = rows[0]
        # Cumulative columns and times start at zero, as if the recording had begun with this run.
        self._times_s = [row["t_s"] - first["t_s"] for row in rows]
        if any(later <= earlier for earlier, later in pairwise(self._times_s)):
            raise self._broken("t_s must rise")
        found = tuple(name for name in COMPONENTS if f"{name}_j" in first)
        if not found:
            raise self._broken("needs a column cpu_j, gpu_j or dram_j")
        self._found = found
        columns = [key for key in (*(f"{name}_j" for name in found), "lo_j", "hi_j") if key in first]
        self._columns = {key: [row[key] - first[key] for row in rows] for key in columns}
        self._start_ns = self._clock_ns()
        return Capability(
            source=self.name,
            tier=Tier.REPLAYED,
            boundary=Boundary.ALLOCATION,
            components=found,
            period_s=max(later - earlier for earlier, later in pairwise(self._times_s)),
            poll_s=None,
            keys=(str(self._path),),
            details=(f"energy of another run, from {self._path}: {self._times_s[-1]:g} s",),
        )

    def read(self) -> Reading:
        """Return the trace's cumulative energy at the present time of the run."""
        t_ns = self._clock_ns()
        elapsed_s = (t_ns - self._start_ns) * 1e-9
        components_j = {name: self._at(elapsed_s, f"{name}_j") for name in self._found}
        total_j = sum(components_j.values())
        # Bounds in the recording, if any, replace the assumed ones.
        bounds = Interval.around(total_j, half_width=expanded_j(_GAIN_U * total_j))
        lo_j = bounds.lo
        hi_j = bounds.hi
        if "lo_j" in self._columns:
            lo_j = self._at(elapsed_s, "lo_j")
        if "hi_j" in self._columns:
            hi_j = self._at(elapsed_s, "hi_j")
        lost_s = max(0.0, elapsed_s - self._times_s[-1])
        return Reading(t_ns, self.name, Tier.REPLAYED, components_j, lo_j, hi_j, lost_s)

    def _at(self, elapsed_s: float, column: str) -> float:
        """Interpolate a column linearly; after the end it keeps its last value."""
        times_s = self._times_s
        values_j = self._columns[column]
        if elapsed_s >= times_s[-1]:
            return values_j[-1]
        # E(t) = E_l + (t - t_l) / (t_r - t_l) * (E_r - E_l)
        right = bisect_right(times_s, elapsed_s)
        left = right - 1
        share = (elapsed_s - times_s[left]) / (times_s[right] - times_s[left])
        return values_j[left] + share * (values_j[right] - values_j[left])

    def _load(self) -> list[dict[str, float]]:
        try:
            with self._path.open(newline="") as file:
                # JSON lines are assumed where the name says so, CSV with a header otherwise.
                rows: list[dict[str, str]]
                if self._path.suffix == ".jsonl":
                    rows = [json.loads(line) for line in file if line.strip()]
                else:
                    rows = list(csv.DictReader(file))
            return [{key: float(value) for key, value in row.items()} for row in rows]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self._broken(str(error)) from error

    def _broken(self, why: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"energy.replay_path={self._path}: {why}",
            remedy="give a .csv or .jsonl with t_s and cumulative cpu_j, gpu_j, dram_j",
        )
