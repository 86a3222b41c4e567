"""The floor's page: power against budget, lines over time, and their output; it needs no server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.floor import drawing, status_view
from factory.floor.drawing import Axis, Curve
from factory.floor.history import Span, spans
from factory.floor.lines import LineState
from factory.floor.questions import QUESTIONS
from factory.floor.questions.answer import answer, reading
from factory.floor.questions.matching import Choice
from factory.floor.questions.question import Parameters
from factory.floor.records import Sample
from factory.floor.store import Store
from factory.operator.stored import FINDINGS
from factory.reporting.formatting import format_si
from factory.reporting.html import write_html
from factory.runtime.atomic_write import atomic_write

FILE = "floor.html"
_MOST_ROWS = 40
_MOST_ACTIONS = 20
_MOST_LINES = 200
_MOST_EVENTS = 5000
_MOST_SAMPLES = 2000
_SHOWN_STATES = ("queued", "starting", "running", "paused", "preempting")


def write_page(store: Store) -> Path:
    """Write `floor.html` under the root of the floor and return its path."""
    now = time.time()
    state = status_view.plain(store)
    # The history of weeks is drawn as fast as that of an hour.
    first = min((line.created_at for line in store.lines()), default=now)
    samples = store.samples(spacing_s=max(1, int((now - first) / _MOST_SAMPLES)))
    found = spans(store.events(limit=_MOST_EVENTS), now=now)
    axis = _axis(samples, found, now)
    path = store.root / FILE
    # A floor may have thousands of lines; the newest and the active ones fit a page.
    shown = _newest_lines(state["lines"])
    with atomic_write(path) as unfinished:
        write_html(
            unfinished,
            "floor.html",
            title=f"Factory floor {store.root}",
            state=state["floor"]["state"],
            is_running=state["floor"]["state"] != "stopped",
            facts=_facts(store, state["floor"], now),
            tiles=_tiles(state),
            timeline=_timeline(found, axis),
            state_names=_SHOWN_STATES,
            power=_power(samples, axis),
            power_label=f"upper bound, {state['floor']['tier']}",
            tokens=_tokens(samples, axis),
            operator=_operator(store, now),
            lines=[_row(line) for line in shown],
            num_hidden=len(state["lines"]) - len(shown),
        )
    return path


def _axis(samples: Sequence[Sample], found: Sequence[Span], now: float) -> Axis:
    starts = [span.start for span in found if span.state is not LineState.QUEUED]
    starts += [sample.at for sample in samples[:1]]
    ends = [span.end for span in found] + [sample.at for sample in samples[-1:]]
    start = min(starts, default=now - 60.0)
    return Axis(start=start, end=max(max(ends, default=now), start + 10.0))


def _facts(store: Store, floor: dict[str, Any], now: float) -> list[str]:
    facts = [f"budget: {floor['budget']}", f"{floor['cores_busy']:.2f} CPUs busy (counted)"]
    if floor["state"] == "stopped":
        facts = [f"budget: {floor['budget']}"]
    return [*facts, f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC", f"root {store.root}"]


def _tiles(state: dict[str, Any]) -> list[dict[str, str]]:
    floor = state["floor"]
    lines = state["lines"]
    states = Counter(line["state"] for line in lines)
    tokens = sum(line["tokens"] for line in lines)
    lines_j = sum(line["joules"] for line in lines)
    waste_j = sum(line["waste_j"] for line in lines)
    tier = floor["tier"]
    each = "no tokens yet"
    if tokens:
        each = f"{format_si(lines_j / tokens, 'J')} a token, {tier}"
    waiting = ", ".join(f"{states[name]} {name}" for name in _SHOWN_STATES if states[name])
    ended = f"{states['failed']} failed, {states['cancelled']} cancelled"
    return [
        {"label": "Lines finished", "value": f"{states['finished']} of {len(lines)}", "note": ended},
        {
            "label": "On the floor",
            "value": f"{states['running']} running",
            "note": waiting or "nothing waits",
        },
        {"label": "Control tokens", "value": format_si(float(tokens)), "note": each},
        {
            "label": f"Power ({tier})",
            "value": f"{floor['power_w']:.1f} W",
            "note": f"at most {floor['power_upper_w']:.1f} W",
        },
        {
            "label": f"Energy of the node ({tier})",
            "value": format_si(floor["joules"], "J"),
            "note": f"{format_si(floor['unattributed_j'], 'J')} belong to no line",
        },
        {
            "label": f"Wasted energy ({tier})",
            "value": format_si(waste_j, "J"),
            "note": "in work that was lost",
        },
    ]


def _timeline(found: Sequence[Span], axis: Axis) -> Any:
    """Return the drawing of the newest lines that have left the queue; empty if none has."""
    by_line: dict[int, list[Span]] = {}
    for span in found:
        by_line.setdefault(span.line, []).append(span)
    started = [number for number, own in by_line.items() if any(span.state.is_active for span in own)]
    if not started:
        return ""
    rows = [(str(number), by_line[number]) for number in sorted(started)[-_MOST_ROWS:]]
    return drawing.timeline(rows, axis)


def _power(samples: Sequence[Sample], axis: Axis) -> Any:
    if not samples:
        return ""
    times = [sample.at for sample in samples]
    budget = Curve(
        label="budget",
        css_class="budget",
        times=times,
        values=[sample.budget_w for sample in samples],
        is_stepped=True,
    )
    power = Curve(label="power", css_class="power", times=times, values=[row.power_w for row in samples])
    return drawing.plot([budget, power], axis, unit="W")


def _tokens(samples: Sequence[Sample], axis: Axis) -> Any:
    if not samples:
        return ""
    times = [sample.at for sample in samples]
    values = [row.tokens_per_s for row in samples]
    return drawing.plot(
        [Curve(label="tokens", css_class="tokens", times=times, values=values)], axis, unit="1/s"
    )


def _operator(store: Store, now: float) -> dict[str, Any]:
    """Return open findings, open suggestions and the newest actions of a day."""
    parameters = Parameters(hours=24.0, rows=_MOST_ACTIONS)
    found: dict[str, Any] = {"findings": [one["id"] for one in store.get(FINDINGS)]}
    with reading(store.root) as connection:
        for name in ("suggested", "done"):
            given = answer(connection, Choice(question=QUESTIONS[name], parameters=parameters), now=now)
            found[name] = [dict(zip(given.columns, row, strict=True)) for row in given.rows]
    found["done"] = [row for row in found["done"] if row["status"] != "proposed"]
    return found


def _newest_lines(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines to list: those with processes first, then the others, the newest first."""
    active = ("starting", "running", "paused", "preempting")
    ordered = sorted(lines, key=lambda line: (line["state"] not in active, -line["id"]))
    return ordered[:_MOST_LINES]


def _row(line: dict[str, Any]) -> dict[str, Any]:
    return line | {
        "progress": f"{100 * line['progress']:.0f} %",
        "tokens_per_s": format_si(line["tokens_per_s"]) if line["tokens_per_s"] else "",
        "power_w": f"{line['power_w']:.1f}" if line["power_w"] else "",
        "joules": f"{line['joules']:.0f}",
        "waste_j": f"{line['waste_j']:.0f}" if line["waste_j"] else "",
    }
