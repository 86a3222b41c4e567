"""How far a training is, how long it still takes, and the figures of its last iteration."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping

from factory.reporting.formatting import format_duration, format_number, format_percent, format_si

Clock = Callable[[], float]


class Pace:
    """Time left, from the pace over the latter half of the iterations so far.

    The first mark is the end of the first iteration, so start-up and compilation never count. Half of the run
    is long enough to hold its share of evaluations and checkpoints, and follows a machine that slows down.
    """

    def __init__(self, total_steps: int, *, clock: Clock) -> None:
        """Start with no marks, `total_steps` env steps ahead."""
        self.total_steps = total_steps
        self._clock = clock
        self._times_s: list[float] = []
        self._steps: list[float] = []

    def mark(self, step: float) -> None:
        """Note that `step` env steps are done now."""
        if len(self._times_s) >= 1024:  # thin out: a bounded list, whatever the length of the run
            del self._times_s[1::2], self._steps[1::2]
        self._times_s.append(self._clock())
        self._steps.append(step)

    def eta_s(self) -> float:
        """Return the seconds of training left, nan while two iterations have not passed."""
        if len(self._times_s) < 2:
            return math.nan
        now_s, step = self._times_s[-1], self._steps[-1]
        middle = bisect_left(self._times_s, (self._times_s[0] + now_s) / 2, hi=len(self._times_s) - 2)
        done = step - self._steps[middle]
        if done <= 0:
            return math.nan
        return max(0.0, self.total_steps - step) * (now_s - self._times_s[middle]) / done

    def text(self) -> str:
        """Return `ETA 3 min 05 s`, or that it is not known yet, or that all is done."""
        if self._steps and self._steps[-1] >= self.total_steps:
            return "done"
        eta_s = self.eta_s()
        return f"ETA {format_duration(eta_s)}" if math.isfinite(eta_s) else "ETA unknown yet"


def progress_text(metrics: Mapping[str, float], pace: Pace) -> str:
    """Return `81.9 k / 4.00 M env steps (2 %)  ETA 3 min 05 s`."""
    step = metrics.get("factory/env_steps", 0.0)
    share = math.floor(100.0 * step / max(pace.total_steps, 1))
    return f"{format_si(step)} / {format_si(pace.total_steps)} env steps ({share} %)  {pace.text()}"


def iteration_figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the figures of one iteration, in rows of learning, throughput, losses; `-` where unknown."""

    def get(key: str) -> float:
        return metrics.get(key, math.nan)

    return [
        ("return", format_number(get("train/return_mean"))),
        ("env-steps/s", format_si(get("factory/env_steps_per_s"))),
        ("approx_kl", format_number(get("loss/approx_kl"))),
        ("episode length", format_number(get("train/episode_length_mean"))),
        ("tokens/s", format_si(get("factory/tokens_per_s"))),
        ("learning rate", format_number(get("loss/learning_rate"))),
        ("success", format_percent(get("train/success_rate"))),
        ("wall time", format_duration(get("time/wall_s"))),
        ("explained var", format_number(get("loss/explained_variance"))),
    ]
