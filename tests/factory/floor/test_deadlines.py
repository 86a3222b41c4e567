"""Lines that wait for cheap electricity start in time for their deadlines, and not before that."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

from floor_plant import Plant, PlantLine

from factory.floor.deadlines import spare
from factory.floor.learning import CurveWatch
from factory.floor.lines import Line, LineState, Needs
from factory.floor.plan import Bar, FloorView, LineView, OperatingPoint, PowerLimit, Settings, Verb

DEAR = Bar(flex=3, reason="waits for cheaper electricity")
NOW = 1000.0


def line(number: int, *, needs_s: float, deadline_s: float | None, **changes: object) -> LineView:
    """Return a line of flex 3 that waits and needs some seconds on one core."""
    waiting = LineView(
        id=number,
        state=LineState.QUEUED,
        since_s=0.0,
        submitted_s=0.0,
        needs=Needs(cores=1.0, memory_bytes=1),
        point=OperatingPoint(power_w=5.0, tokens_per_s=100.0, is_prior=False),
        flex=3,
        deadline_s=deadline_s,
        remaining_tokens=100.0 * needs_s,
    )
    return replace(waiting, **changes)  # type: ignore[arg-type]


def spared(*lines: LineView, cores: float = 1.0) -> set[int]:
    """Return the lines that run although electricity is dear, without a reserve."""
    view = FloorView(lines=lines, capacity=Needs(cores=cores, memory_bytes=1), bar=DEAR)
    return set(spare(view, NOW, Settings(deadline_reserve_s=0.0)).bar.spared)


def test_a_line_is_spared_from_its_latest_start_on() -> None:
    """100 s of work need 125 s with the margin, and 200 s if the speed is only that of others."""
    assert spared(line(1, needs_s=100.0, deadline_s=NOW + 126.0)) == set()
    assert spared(line(1, needs_s=100.0, deadline_s=NOW + 125.0)) == {1}
    prior = OperatingPoint(power_w=5.0, tokens_per_s=100.0)
    assert spared(line(1, needs_s=100.0, deadline_s=NOW + 199.0, point=prior)) == {1}
    assert spared(line(1, needs_s=100.0, deadline_s=None)) == set()


def test_a_line_of_unknown_speed_or_length_does_not_wait() -> None:
    """Nobody knows when it would have to start, so it starts."""
    unknown = OperatingPoint(power_w=5.0)
    assert spared(line(1, needs_s=1.0, deadline_s=NOW + 1e6, point=unknown)) == {1}
    late = line(2, needs_s=100.0, deadline_s=NOW + 2e6)
    assert spared(line(1, needs_s=inf, deadline_s=NOW + 1e6), late) == {1}


def test_lines_that_need_the_same_cores_are_counted_together() -> None:
    """Three lines of 100 s on one core need 375 s; on three cores 125 s. Later deadlines can wait."""
    three = [line(number, needs_s=100.0, deadline_s=NOW + 300.0) for number in (1, 2, 3)]
    late = line(4, needs_s=100.0, deadline_s=NOW + 1e5)
    assert spared(*three, late) == {1, 2, 3}
    assert spared(*three, late, cores=3.0) == set()


def test_a_line_that_runs_stops_only_with_time_to_spare() -> None:
    """It would otherwise stop as soon as its first second has passed."""
    running = line(1, needs_s=100.0, deadline_s=NOW + 240.0, state=LineState.RUNNING)
    assert spared(running) == {1}
    assert spared(replace(running, deadline_s=NOW + 260.0)) == set()


def test_deadlines_are_kept_although_prices_stay_high() -> None:
    """Under a bar that never lifts, each line waits, starts in time, ends in time, and hardly flaps."""
    work_s = {1: 60.0, 2: 60.0, 3: 30.0}
    lines = [
        PlantLine(id=number, flex=3, work_s=seconds, deadline_s=1000.0 + 400.0)
        for number, seconds in work_s.items()
    ]
    free = PlantLine(id=4, flex=3, work_s=10.0)
    plant = Plant([*lines, free], cores=2.0, bar=DEAR)
    ended: dict[int, float] = {}
    for _ in range(400):
        plant.tick(PowerLimit())
        for one in plant.lines:
            if one.state is LineState.FINISHED:
                ended.setdefault(one.id, plant.now)
    assert set(ended) == set(work_s)
    assert max(ended.values()) <= 1400.0
    # Nobody starts before the time is needed: 75 s with the margin, twice that to stop, and the reserve.
    assert min(one.first_started_s or 0.0 for one in lines) >= 1150.0
    assert plant.count(Verb.PAUSE) <= 6
    assert free.state is LineState.QUEUED
    assert plant.last_plan.waiting[4] == "waits for cheaper electricity"


def test_tokens_of_a_step_are_those_of_other_lines_of_the_task(tmp_path: Path) -> None:
    """A line that has not begun is as long as its task makes it; without any example nobody knows."""
    watch = CurveWatch([], prior_w_per_core=10.0, machine="m", version="v")
    known = {"overrides": (), "spec_hash": "h", "needs": Needs(cores=1.0, memory_bytes=1)}
    fresh = Line(id=1, name="a", task="reach", total_steps=1000, **known)
    assert watch.remaining_tokens(fresh) == inf
    watch.see(replace(fresh, id=2, steps=100, tokens=500))
    assert watch.remaining_tokens(fresh) == 5000.0
    assert watch.remaining_tokens(replace(fresh, steps=500, tokens=2500)) == 2500.0
