"""The scheduler: a pure function from the state of the floor to the actions of a tick.

Over the budget it pauses the smallest set of lines that is enough. Otherwise it serves the lines that wait,
one start or resume at a time, pre-empts lines for others of higher priority, and turns long pauses into
pre-emptions. It remembers nothing; all that it knows about the past is in the view.
"""

from __future__ import annotations

from factory.floor.admission import admit, start
from factory.floor.deadlines import spare
from factory.floor.headroom import headroom
from factory.floor.plan import FloorView, Plan, PowerLimit, Settings
from factory.floor.preemption import preempt_for, tidy
from factory.floor.room import Room
from factory.floor.shedding import shed, stop_barred


def plan(view: FloorView, limit: PowerLimit, now: float, settings: Settings) -> Plan:
    """Return the actions of a tick, and the reason for which each line that waits does so.

    Lines that are starting or leaving, and lines that a user holds, are never touched.

    Args:
        view: State of the floor.
        limit: Budget at this moment.
        now: Monotonic time of the view [s].
        settings: Rules.
    """
    view = spare(view, now, settings)
    # What there is, then who is served: the answers about waiting lines hold whatever is done below.
    power = headroom(view, limit, now, settings)
    room = Room(view, power, settings.quota_cores)
    served = admit(view, room, power, now, settings)
    if power.is_over:
        # Over the budget nothing else happens in this tick.
        pauses, excess_w = shed(view, power)
        return Plan(actions=pauses, waiting=served.waiting, excess_w=excess_w)
    barred = stop_barred(view)
    if barred or not power.is_known:
        return Plan(actions=barred, waiting=served.waiting)
    # With the power known and within the budget, there is room for changes of place.
    actions = preempt_for(served, view, now, settings)
    # A small line that came after one that is blocked must not take the place that others leave for it.
    if served.first is not None and served.is_due:
        if actions and served.is_backfill:
            served.waiting[served.first.id] = "another line makes room for one that is served first"
        else:
            actions = (*actions, start(served.first, now))
    return Plan(actions=actions or tidy(served, view, power, now, settings), waiting=served.waiting)
