"""Progress of a training: share done, time left, current speed, and the metrics of its last iteration."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping

from factory.metric_keys import Metric, metric
from factory.reporting.formatting import UNKNOWN, format_duration, format_metric_value, format_si

Clock = Callable[[], float]
SPEED_WINDOW_S = 10.0
"""Time over which the current speed is taken, at least the last iteration."""
_MAX_MARKS = 1024
_SHOWN = (
    ("train/return_mean", "factory/env_steps_per_s", "loss/approx_kl"),
    ("train/episode_length_mean", "factory/tokens_per_s", "loss/learning_rate"),
    ("train/success_rate", "time/wall_s", "loss/explained_variance"),
)
"""Rows of learning, throughput, losses."""


class Eta:
    """Time left and current speed, from the times at which iterations ended.

    The first mark is the end of the first iteration, so start-up and compilation never count. The time left
    follows the latter half of the iterations: long enough to hold its share of evaluations and checkpoints,
    and soon aware of a machine that slows down.
    """

    def __init__(self, total_steps: int, *, clock: Clock) -> None:
        """Start with no marks, `total_steps` env steps ahead."""
        self.total_steps = total_steps
        self._clock = clock
        self._times_s: list[float] = []
        self._steps: list[float] = []

    def mark(self, step: float) -> None:
        """Note that `step` env steps are done now."""
        if len(self._times_s) >= _MAX_MARKS:
            # Every second mark is dropped, so the list stays short however long the run is.
            del self._times_s[1::2]
            del self._steps[1::2]
        self._times_s.append(self._clock())
        self._steps.append(step)

    def eta_s(self) -> float:
        """Return the seconds of training left, nan while two iterations have not passed."""
        if len(self._times_s) < 2:
            return math.nan
        # Speed over the latter half of the time; time left = steps left / speed.
        half_s = (self._times_s[0] + self._times_s[-1]) / 2
        speed = self._speed_since(half_s)
        if not speed > 0.0:
            return math.nan
        return max(0.0, self.total_steps - self._steps[-1]) / speed

    def steps_per_s(self) -> float:
        """Return the current speed [env steps/s], nan while two iterations have not passed."""
        if len(self._times_s) < 2:
            return math.nan
        return self._speed_since(self._times_s[-1] - SPEED_WINDOW_S)

    def _speed_since(self, time_s: float) -> float:
        """Return the mean speed since the first mark at or after a time, or since the last but one."""
        # `hi` keeps one interval at least: an iteration may take longer than the window.
        first = bisect_left(self._times_s, time_s, hi=len(self._times_s) - 2)
        duration_s = self._times_s[-1] - self._times_s[first]
        # Two marks at one reading of the clock have no speed.
        if duration_s <= 0.0:
            return math.nan
        return (self._steps[-1] - self._steps[first]) / duration_s

    def text(self) -> str:
        """Return `ETA 3 min 05 s`, or that it is not known yet, or that all is done."""
        if self._steps and self._steps[-1] >= self.total_steps:
            return "done"
        eta_s = self.eta_s()
        if math.isfinite(eta_s):
            return f"ETA {format_duration(eta_s)}"
        return "ETA unknown yet"

    def share(self, step: float) -> float:
        """Return the share of the training that is done; the last iteration may go beyond the total."""
        return min(1.0, step / max(self.total_steps, 1))


def progress_text(metrics: Mapping[str, float], eta: Eta) -> str:
    """Return `81.9 k / 4.00 M env steps (2 %)  ETA 3 min 05 s`."""
    step = metrics.get("factory/env_steps", 0.0)
    # Rounded down: 100 % only when all is done.
    percent = math.floor(100.0 * eta.share(step))
    return f"{format_si(step)} / {format_si(eta.total_steps)} env steps ({percent} %)  {eta.text()}"


def iteration_metrics(metrics: Mapping[str, float], eta: Eta) -> list[list[tuple[Metric, str]]]:
    """Return rows of the metrics of one iteration; `-` where a value is unknown.

    A success rate has no place unless the task defines success. Beside the mean speed stands the current one.
    """
    # Rows, because the panel has columns and a log line has none.
    rows: list[list[tuple[Metric, str]]] = []
    for keys in _SHOWN:
        row: list[tuple[Metric, str]] = []
        for key in keys:
            # Absent where the task defines no success, or before an episode has ended.
            if key == "train/success_rate" and key not in metrics:
                continue
            known = metric(key)
            value = format_metric_value(known, metrics.get(key, math.nan))
            if key == "factory/env_steps_per_s" and value != UNKNOWN:
                value += _current_speed(eta)
            row.append((known, value))
        rows.append(row)
    return rows


def _current_speed(eta: Eta) -> str:
    speed = eta.steps_per_s()
    if math.isnan(speed):
        return ""
    return f" (now {format_si(speed)})"
