"""Lines that leave their place: for one of higher priority, or because their pause has become long."""

from __future__ import annotations

from collections.abc import Iterator

from factory.floor.admission import WINDOW_S, Admission
from factory.floor.headroom import Headroom
from factory.floor.lines import LineState
from factory.floor.plan import Action, FloorView, LineView, Settings, Verb
from factory.floor.shedding import shed_order

_HOUR_S = 3600.0


def preempt_for(served: Admission, view: FloorView, now: float, settings: Settings) -> tuple[Action, ...]:
    """Return the pre-emptions that make room for the first line that waits, if its priority earns that.

    The smallest sufficient set of lines of flex 1 and more, of lower priority, goes in the order of shedding.
    """
    head = served.head
    if head is None or head is not served.blocked or served.is_yielding:
        return ()
    # Greedy: take victims in the order of shedding until nothing is lacking, then spare those not needed.
    lack = list(served.lack)
    victims = [line for line in view.lines if _may_yield(line, head, now, settings)]
    chosen: list[LineView] = []
    for line in sorted(victims, key=shed_order):
        if _helps(lack, line):
            chosen.append(line)
            lack = _less(lack, line)
    if not chosen or max(lack) > 0.0:
        return ()
    reason = f"line {head.id} of priority {head.priority} needs its resources"
    return tuple(_preempt(line, reason) for line in _necessary(chosen, lack))


def tidy(
    served: Admission, view: FloorView, power: Headroom, now: float, settings: Settings
) -> tuple[Action, ...]:
    """Return the pre-emption of a line whose pause has outlasted its break-even, the longest pause first.

    A paused line has to run to write its checkpoint, so this waits until there is power for that. A line for
    which there is power enough to resume is left alone.
    If a queued line has power but lacks what paused lines hold, such as memory, no pause is too short.
    """
    if served.is_yielding:
        return ()
    # What a paused line holds: cores, memory and GPUs, all but watts.
    *held, lacking_w = served.lack
    is_in_the_way = max(held) > 0.0 and lacking_w <= 0.0
    paused = [
        line
        for line in view.lines
        if line.state is LineState.PAUSED and line.flex > 0 and not line.is_held and line is not served.first
    ]
    for line in sorted(paused, key=lambda line: line.since_s):
        pause_s = now - line.since_s
        is_long = is_in_the_way or pause_s >= longest_pause_s(line, view, settings)
        if is_long and _is_rested(line, now, settings) and _may_checkpoint(line, view, power):
            why = f"paused for {pause_s:.0f} s, longer than a restart would cost"
            if is_in_the_way and served.head is not None:
                why = f"paused, and line {served.head.id} needs its resources"
            return (_preempt(line, why),)
    return ()


def longest_pause_s(line: LineView, view: FloorView, settings: Settings) -> float:
    """Return the pause after which a checkpoint and a restart cost less than to go on pausing [s].

    A restart costs CPU time at the power of a busy core; a pause costs the idle power of the cores it keeps:

        t = restart_s * P_core / (P_idle * n / N)

    It is never shorter than `pause_s`, and is `pause_s` where the idle power is unknown.
    """
    # P_idle n / N: the idle power of the node that the cores of the line account for.
    cores = line.needs.cores
    paused_w = view.idle_w * cores / max(view.capacity.cores, cores, 1e-9)
    if paused_w <= 0.0:
        return settings.pause_s
    return max(settings.pause_s, line.restart_s * _core_w(line, view) / paused_w)


def _core_w(line: LineView, view: FloorView) -> float:
    """Return the power of a busy core [W]; a line that gets only a part of its cores draws less than that."""
    return max(view.core_w, line.point.power_w / max(line.needs.cores, 1e-9))


def _may_yield(line: LineView, head: LineView, now: float, settings: Settings) -> bool:
    """Return whether a line may be pre-empted for `head`; age does not count, or the two would take turns."""
    if line.flex <= 0 or line.priority >= head.priority or not _is_rested(line, now, settings):
        return False
    return line.state is LineState.RUNNING and now - line.since_s >= settings.min_run_s


def _is_rested(line: LineView, now: float, settings: Settings) -> bool:
    """Return whether a line has pre-emptions left in this hour."""
    return sum(time_s > now - _HOUR_S for time_s in line.preempted_s) < settings.preemptions_per_hour


def _may_checkpoint(line: LineView, view: FloorView, power: Headroom) -> bool:
    """Return whether a paused line may run for the few seconds of its checkpoint, but not go on after it."""
    if line.point.upper_w <= -power.to_shed_w:
        return False
    # Half of the CPU time of a restart is the way down. A line that is slow at it draws its power for longer.
    checkpoint_j = line.restart_s / 2.0 * _core_w(line, view)
    is_under_limit = power.level_w + min(line.point.upper_w, checkpoint_j / WINDOW_S) <= power.limit_w
    return is_under_limit and power.level_w + line.point.upper_w <= power.hard_w


def _frees(line: LineView) -> tuple[float, float, float, float]:
    """Return the cores, memory, GPUs and watts that a running line gives back."""
    return (line.needs.cores, line.needs.memory_bytes, line.needs.gpus, line.point.power_w)


def _helps(lack: list[float], line: LineView) -> bool:
    return any(lacking > 0.0 and freed > 0.0 for lacking, freed in zip(lack, _frees(line), strict=True))


def _less(lack: list[float], line: LineView) -> list[float]:
    return [lacking - freed for lacking, freed in zip(lack, _frees(line), strict=True)]


def _necessary(chosen: list[LineView], lack: list[float]) -> Iterator[LineView]:
    """Yield the chosen lines, without those that the others make unnecessary; the last are spared first."""
    # `lack` is at most 0 here; a line is spared if it stays so without what that line frees.
    for line in reversed(chosen):
        without = [lacking + freed for lacking, freed in zip(lack, _frees(line), strict=True)]
        if max(without) <= 0.0:
            lack = without
        else:
            yield line


def _preempt(line: LineView, reason: str) -> Action:
    power_w = line.point.power_w
    # A paused line draws nothing that its end could save.
    if line.state is LineState.PAUSED:
        power_w = 0.0
    return Action(
        verb=Verb.PREEMPT,
        line=line.id,
        reason=reason,
        predicted_w=-power_w,
        predicted_sd_w=line.point.power_sd_w,
    )
