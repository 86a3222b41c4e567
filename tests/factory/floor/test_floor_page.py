"""The floor's page and report tell what the store holds, and escape what users wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.floor.audit import Event
from factory.floor.history import shift_report, spans
from factory.floor.lines import Line, LineState, Needs
from factory.floor.page import write_page
from factory.floor.records import Sample
from factory.floor.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with a finished line, a running one and a minute of samples."""
    store = Store(tmp_path, create=True)
    for name in ("first", "<b>second</b>"):
        store.add_line(
            Line(
                id=0,
                name=name,
                task="cartpole_swingup",
                overrides=(),
                spec_hash=name,
                total_steps=10,
                needs=Needs(cores=1.0, memory_bytes=1),
            )
        )
    for line in store.lines():
        line = store.move(line, LineState.STARTING, "first in the queue")
        line = store.move(line, LineState.RUNNING, "runs")
        if line.id == 1:
            store.move(line, LineState.FINISHED, "finished in attempt 1")
            store.update(1, tokens=100, joules=5.0, waste_j=1.0)
    for second in range(60):
        budget_w = 20.0 if second < 30 else 10.0
        store.add_sample(
            Sample(
                at=1e9 + second,
                budget_w=budget_w,
                power_w=12.0,
                joules=float(second),
                tokens=2 * second,
                tokens_per_s=2.0,
                cpu_s=0.5 * second,
                running=1,
            )
        )
    return store


def test_the_page_shows_lines_and_power(store: Store) -> None:
    """Drawings, tiles and table are there, and a name is text and no markup."""
    text = write_page(store).read_text()
    assert "1 of 2" in text
    assert text.count("<polyline") == 3
    assert 'class="state running"' in text
    assert "&lt;b&gt;second&lt;/b&gt;" in text
    assert "<b>second</b>" not in text
    assert "http" not in text.replace('http-equiv="', "")


def test_the_report_adds_up_what_the_samples_say(store: Store) -> None:
    """Output, energy and obedience follow from lines and samples."""
    report = shift_report(store, since=0.0)
    assert (report["policies"], report["tokens"], report["joules"], report["cpu_s"]) == (1, 118, 59.0, 29.5)
    assert report["waste_j"] == 1.0
    # 2 W above 10 W for 30 s.
    assert report["budget"]["violation_ws"] == pytest.approx(60.0)
    assert report["budget"]["max_excess_w"] == pytest.approx(2.0)
    assert set(report["time_s"]) == {"queued", "starting", "running"}


def test_an_empty_floor_has_a_page_and_a_report(tmp_path: Path) -> None:
    """Nothing is missing before anything happened."""
    store = Store(tmp_path, create=True)
    assert "0 of 0" in write_page(store).read_text()
    assert shift_report(store, since=0.0)["policies"] == 0


def test_spans_follow_from_the_events() -> None:
    """Each change of state ends one span and begins the next; a final state begins none."""
    moves = [("queued", 0.0), ("starting", 2.0), ("running", 5.0), ("finished", 9.0)]
    events = [Event(seq=1, at=0.0, kind="submitted", line=7, details={})]
    events += [
        Event(seq=2, at=at, kind="moved", line=7, details={"to": state, "reason": f"to {state}"})
        for state, at in moves[1:]
    ]
    found = spans(events[::-1], now=100.0)
    assert [(span.state.value, span.start, span.end) for span in found] == [
        ("queued", 0.0, 2.0),
        ("starting", 2.0, 5.0),
        ("running", 5.0, 9.0),
    ]
