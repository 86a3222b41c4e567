"""Functions of time that are constant between steps: schedules and targets of a power budget."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from math import inf


class Steps:
    """Power over time: each value holds from its time until the next one; before the first there is no limit.

    With a ramp r the value is the greatest function below the steps that changes by r at most:

        L(t) = min over s of (w(s) + r |t - s|)

    It begins to fall before a step down, so that the step is met in time, and rises slowly after a step up.
    The least of several such functions is again one, so budgets may be ramped one by one.
    """

    def __init__(self, rows: Iterable[tuple[float, float]] = (), *, ramp_w_per_s: float = inf) -> None:
        """Keep the steps.

        Args:
            rows: Time [s since 1970, UTC] and power [W] of each step, by rising time.
            ramp_w_per_s: Greatest change [W/s].
        """
        rows = tuple(rows)
        self.times = tuple(time_s for time_s, _ in rows)
        self.watts = tuple(watts for _, watts in rows)
        self._ramp_w_per_s = ramp_w_per_s
        self._ramped_w = _ramped_values(self.times, self.watts, ramp_w_per_s)

    def at(self, time_s: float) -> float:
        """Return the power of the step in force [W], without the ramp."""
        index = bisect_right(self.times, time_s)
        if index == 0:
            return inf
        return self.watts[index - 1]

    def ramped_at(self, time_s: float) -> float:
        """Return the power with the ramp [W]."""
        # The minimum is that of the two neighbours, whose values already hold the ramps of all other steps.
        power_w = self.at(time_s)
        if self._ramp_w_per_s == inf:
            return power_w
        index = bisect_right(self.times, time_s)
        if index > 0:
            rise_s = time_s - self.times[index - 1]
            power_w = min(power_w, self._ramped_w[index - 1] + self._ramp_w_per_s * rise_s)
        if index < len(self.times):
            fall_s = self.times[index] - time_s
            power_w = min(power_w, self._ramped_w[index] + self._ramp_w_per_s * fall_s)
        return power_w

    def next_time(self, time_s: float) -> float:
        """Return the time of the next step; infinity after the last."""
        index = bisect_right(self.times, time_s)
        if index == len(self.times):
            return inf
        return self.times[index]


def _ramped_values(
    times: tuple[float, ...], watts: tuple[float, ...], ramp_w_per_s: float
) -> tuple[float, ...]:
    """Return the ramped power at the time of each step [W]."""
    if ramp_w_per_s == inf or not times:
        return watts
    # At a step the lower of its two sides holds.
    ramped_w = [watts[0]]
    ramped_w += [min(before, after) for before, after in pairwise(watts)]
    # One pass carries the rise after each step forward in time, the other the fall before it backward.
    for index in range(1, len(times)):
        reach_w = ramped_w[index - 1] + ramp_w_per_s * (times[index] - times[index - 1])
        ramped_w[index] = min(ramped_w[index], reach_w)
    for index in range(len(times) - 2, -1, -1):
        reach_w = ramped_w[index + 1] + ramp_w_per_s * (times[index + 1] - times[index])
        ramped_w[index] = min(ramped_w[index], reach_w)
    return tuple(ramped_w)
