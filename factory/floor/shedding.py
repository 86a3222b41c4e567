"""Lines to shed: the order in which they go, and the smallest set that is enough."""

from __future__ import annotations

from collections.abc import Sequence

from factory.floor.headroom import Headroom
from factory.floor.lines import LineState
from factory.floor.plan import Action, FloorView, LineView, Verb


def shed_order(line: LineView) -> tuple[float, ...]:
    """Return a key that sorts lines: flexible, unimportant, unproductive and new ones go first."""
    return (-line.flex, line.priority, line.tokens_per_joule, -line.submitted_s, -line.id)


def smallest_set(lines: Sequence[LineView], need_w: float) -> list[LineView]:
    """Return lines whose power adds up to `need_w`, in the order in which they are shed; else all lines.

    None of them can be left out. Lines that turn out to be unnecessary are spared from the back of the order,
    so a flexible line goes on if a less flexible one had to go for its size.
    """
    chosen: list[LineView] = []
    sum_w = 0.0
    for line in sorted(lines, key=shed_order):
        if sum_w >= need_w:
            break
        chosen.append(line)
        sum_w += line.point.power_w
    needed: list[LineView] = []
    # From the back of the order: the line that is hardest to miss is the first to be spared.
    for line in reversed(chosen):
        if sum_w - line.point.power_w >= need_w:
            sum_w -= line.point.power_w
        else:
            needed.append(line)
    return needed[::-1]


def shed(view: FloorView, room: Headroom) -> tuple[tuple[Action, ...], float]:
    """Return the pauses that bring the power back under the budget, and the excess they cannot remove [W].

    Lines of flex 0 are paused for the limit of the site only, and only if all others are not enough.
    """
    if not room.is_over:
        return (), 0.0
    # A line that draws nothing would be paused for nothing.
    running = [line for line in view.lines if line.state is LineState.RUNNING and line.point.power_w > 0.0]
    flexible = [line for line in running if line.flex > 0]
    flexible_w = sum(line.point.power_w for line in flexible)
    chosen: list[LineView] = []
    # Rigid lines first decide how much they take, since then fewer flexible ones may have to go.
    if room.level_w - flexible_w > room.hard_w:
        rigid = [line for line in running if line.flex <= 0]
        chosen += smallest_set(rigid, room.to_shed_hard_w - flexible_w)
    rigid_w = sum(line.point.power_w for line in chosen)
    chosen = smallest_set(flexible, room.to_shed_w - rigid_w) + chosen
    left_w = room.level_w - sum(line.point.power_w for line in chosen)
    return tuple(_pause(line, room) for line in chosen), max(0.0, left_w - room.limit_w)


def stop_barred(view: FloorView) -> tuple[Action, ...]:
    """Return the pauses of the running lines that a bar keeps from running."""
    return tuple(
        Action(
            verb=Verb.PAUSE,
            line=line.id,
            reason=view.bar.reason,
            predicted_w=-line.point.power_w,
            predicted_sd_w=line.point.power_sd_w,
        )
        for line in view.lines
        if line.state is LineState.RUNNING and view.bar.holds(line)
    )


def _pause(line: LineView, room: Headroom) -> Action:
    order = f"flex {line.flex}, priority {line.priority}"
    if line.flex <= 0:
        order = "flex 0, as the limit of the site is hard and no other line is left"
    return Action(
        verb=Verb.PAUSE,
        line=line.id,
        reason=f"{room.level_w:.1f} W are over the budget of {room.limit_w:.1f} W; shed by {order}",
        predicted_w=-line.point.power_w,
        predicted_sd_w=line.point.power_sd_w,
    )
