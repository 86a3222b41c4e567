"""Learning curves of groups: the mean over seeds with the range of the seeds around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from factory.comparison.groups import Group
from factory.comparison.result import Comparison
from factory.comparison.runs import ComparedRun
from factory.reporting.curves import time_axis
from factory.reporting.formatting import si_unit
from factory.reporting.run_folder import Record

_RETURN = "train/return_mean"
# About one point for every three pixels of the picture.
_POINTS = 200
_Position = Callable[[Record], float]


@dataclass(frozen=True, kw_only=True)
class GroupCurve:
    """Return of a group over the range that all its seeds have. Shapes: (P,)."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    """Lowest seed."""
    high: np.ndarray
    """Highest seed."""
    num_seeds: int

    def scaled(self, divisor: float) -> GroupCurve:
        """Return the curve with positions in another unit."""
        return GroupCurve(
            x=self.x / divisor, mean=self.mean, low=self.low, high=self.high, num_seeds=self.num_seeds
        )


def group_curves(comparison: Comparison) -> Iterator[tuple[str, list[GroupCurve | None]]]:
    """Yield the label of a horizontal axis and a curve of every group, for every axis that runs logged."""
    positions: dict[str, _Position] = {
        "env steps": lambda record: float(record.step),
        "s": lambda record: record.metrics.get("time/wall_s", math.nan),
        "J": _training_energy,
    }
    for unit, position in positions.items():
        curves = [group_curve(group, position) for group in comparison.groups]
        # The longest curve chooses the unit of the axis for all.
        ends = [float(curve.x[-1]) for curve in curves if curve]
        if not ends:
            continue
        label, divisor = _axis(unit, max(ends), tier=comparison.tier)
        yield label, [curve and curve.scaled(divisor) for curve in curves]


def _training_energy(record: Record) -> float:
    """Return the joules so far; the last row counts evaluation, video and export, too."""
    if record.is_final:
        return math.nan
    return record.metrics.get("energy/total_j", math.nan)


def _axis(unit: str, largest: float, *, tier: str) -> tuple[str, float]:
    """Return the label of an axis, and the divisor that brings values into its unit."""
    if unit == "s":
        scaled, label = time_axis([largest])
        return label, largest / scaled[0]
    if unit == "J":
        divisor, name = si_unit(largest, "J")
        return f"energy of the run ({name}, {tier})", divisor
    return unit, 1.0


def group_curve(group: Group, position: _Position) -> GroupCurve | None:
    """Return the curve of a group, None if a seed has no two iterations with a return.

    Args:
        group: Runs of one setting; runs that repeat a seed count by themselves.
        position: Place of an iteration on the horizontal axis.
    """
    curves = [_points(run, position) for run in group.runs]
    # A single iteration is a point and no curve.
    if any(len(x) < 2 for x, _ in curves):
        return None
    # Only the range that all seeds cover: elsewhere the mean would change with the number of seeds.
    first = max(x[0] for x, _ in curves)
    last = min(x[-1] for x, _ in curves)
    if not first < last:
        return None
    # Seeds are at different places, so their returns are interpolated at common ones.
    grid = np.linspace(first, last, _POINTS)
    returns = np.stack([np.interp(grid, x, y) for x, y in curves])
    return GroupCurve(
        x=grid,
        mean=returns.mean(0),
        low=returns.min(0),
        high=returns.max(0),
        num_seeds=len(curves),
    )


def _points(run: ComparedRun, position: _Position) -> tuple[np.ndarray, np.ndarray]:
    """Return position and return of every iteration that has both. Shapes: (P,)."""
    pairs = [(position(record), record.metrics.get(_RETURN, math.nan)) for record in run.history]
    known = [pair for pair in pairs if all(map(math.isfinite, pair))]
    # The shape holds for a run without any such iteration.
    array = np.array(known, float).reshape(-1, 2)
    return array[:, 0], array[:, 1]
