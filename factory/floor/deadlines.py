"""Background lines that run despite a bar, because they would otherwise miss their deadlines.

Waiting lines are counted together, by the earliest deadline, on all cores of the floor:

    t_start(k) = d_k - m * max(t_k, sum_{d_i <= d_k} t_i n_i / N) - reserve

with the time t_i that line i still needs on its n_i cores, N cores, and a margin m for what goes wrong. From
t_start(k) on, line k and those with earlier deadlines run, whatever electricity costs.

Where prices or forecasts until d_k are known, only the times at which electricity is cheaper count. A line
then runs in the cheapest hours that suffice, that is as soon as

    m * max(t_k, sum ...) + reserve >= time before d_k that is cheaper than now
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from factory.floor.lines import LineState
from factory.floor.plan import Bar, FloorView, LineView, Settings

_MARGIN = 1.25
_PRIOR_MARGIN = 2.0
"""Margin while the speed is that of other settings."""
_RUNNING_FACTOR = 2.0
"""A line that runs for its deadline stops only with this much more time than it would have started with."""


def spare(view: FloorView, now: float, settings: Settings) -> FloorView:
    """Return the floor with a bar that exempts the lines that have to run for their deadlines."""
    held = [line for line in view.lines if view.bar.holds(line) and line.deadline_s is not None]
    if not held:
        return view
    urgent = _urgent(held, view.bar, view.capacity.cores, now, settings)
    return replace(view, bar=replace(view.bar, spared=frozenset(urgent)))


def _urgent(held: list[LineView], bar: Bar, cores: float, now: float, settings: Settings) -> set[int]:
    """Return the lines that have to run now."""
    # Nobody knows when a line of unknown length would have to start, so it starts.
    unknown = {line.id for line in held if _needed_s(line) == inf}
    ordered = sorted((line for line in held if line.id not in unknown), key=_deadline)
    together_s = 0.0
    num_urgent = 0
    for place, line in enumerate(ordered, start=1):
        own_s = _needed_s(line)
        # The time that this line and all with earlier deadlines would take on all cores, without gaps.
        together_s += own_s * line.needs.cores / max(cores, line.needs.cores, 1e-9)
        wanted_s = max(own_s, together_s) + settings.deadline_reserve_s
        if line.state is LineState.RUNNING:
            wanted_s *= _RUNNING_FACTOR
        if wanted_s >= bar.better_s(now, _deadline(line)):
            # The lines with earlier deadlines are urgent with it, as their time is part of the sum.
            num_urgent = place
    return unknown | {line.id for line in ordered[:num_urgent]}


def _needed_s(line: LineView) -> float:
    """Return the time that a line needs, with a margin [s]; infinite without an idea of its speed."""
    if line.point.tokens_per_s <= 0.0:
        return inf
    margin = _MARGIN
    if line.point.is_prior:
        margin = _PRIOR_MARGIN
    return margin * line.remaining_tokens / line.point.tokens_per_s


def _deadline(line: LineView) -> float:
    assert line.deadline_s is not None
    return line.deadline_s
