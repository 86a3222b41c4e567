"""Every detector finds its fault, and none finds one where both of its conditions do not hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from factory.floor.lines import ExitClass, LineState
from factory.operator.detectors import DETECTORS
from factory.operator.orient import Orientation
from factory.operator.pressure import Pressure
from factory.operator.run_files import RowHistory, WindowMeans
from factory.operator.thresholds import Thresholds
from factory.operator.view import CheckpointView, HostView, LineView, MeterView, Row, View
from factory.operator.words import Fault, Severity

NOW = 10_000.0


def rows(*parts: tuple[int, float], returns: Callable[[int], float] = float, kl: float = 0.01) -> list[Row]:
    """Return iterations: each part has a number of them and their duration [s], with 3 % of jitter."""
    times = [seconds * (1.0 + 0.03 * (-1) ** index) for number, seconds in parts for index in range(number)]
    return [
        Row(
            seen_s=NOW - len(times) + index,
            steps=100 * index,
            iteration_s=seconds,
            tokens_per_s=100.0 / seconds,
            return_mean=returns(index),
            approx_kl=kl,
        )
        for index, seconds in enumerate(times)
    ]


def line(number: int = 1, **changes: object) -> LineView:
    """Return a healthy line that runs, with changes."""
    healthy = LineView(
        id=number,
        group="a",
        state=LineState.RUNNING,
        state_age_s=100.0,
        total_steps=1_000_000,
        steps=6000,
        attempts=1,
        rows=tuple(rows((60, 0.2))),
        cores_busy=0.9,
        tokens_per_s=500.0,
    )
    changed = replace(healthy, **changes)  # type: ignore[arg-type]
    history = RowHistory()
    for row in changed.rows:
        history.add(row)
    return replace(changed, usual=tuple(history.usual), returns=tuple(history.returns.means))


def view(*lines: LineView, **changes: object) -> View:
    """Return a floor with lines on a quiet machine, with changes."""
    host = HostView(num_cores=4.0, cores_busy=1.0, memory_bytes=16e9, memory_free_bytes=8e9)
    return replace(View(now_s=NOW, lines=lines, host=host), **changes)  # type: ignore[arg-type]


def metered(*excess_w: float, age_s: float = 0.5, **changes: object) -> MeterView:
    """Return a meter with one sample a second, this much above a budget of 50 W."""
    start_s = NOW - age_s - len(excess_w) + 1
    samples = tuple((start_s + index, 50.0 + watts, 50.0) for index, watts in enumerate(excess_w))
    made = MeterView(limit_w=50.0, samples=samples, sample_age_s=age_s)
    return replace(made, **changes)  # type: ignore[arg-type]


def queued(exit_class: ExitClass, **changes: object) -> LineView:
    """Return a line that waits after an attempt."""
    return line(state=LineState.QUEUED, exit_class=exit_class, rows=(), **changes)


def leaking(per_s: float) -> tuple[tuple[float, float], ...]:
    """Return a minute of memory that grows."""
    return tuple((NOW - 60.0 + 2.0 * index, 1e9 + 2.0 * index * per_s) for index in range(31))


SLOW = tuple(rows((30, 0.2), (20, 0.3)))
CRAWLING = tuple(rows((40, 0.2), (8, 1.0)))
BUSY = HostView(num_cores=2.0, cores_busy=2.0, load=6.0, memory_bytes=16e9, memory_free_bytes=8e9)
LOST = tuple(rows((100, 0.2), returns=lambda index: float(index if index < 60 else 5 + index % 3)))
BAD = tuple(replace(row, num_bad=float(max(0, index - 50))) for index, row in enumerate(rows((60, 0.2))))
FLAT = tuple(rows((260, 0.2), returns=lambda index: float(min(index, 50) + index % 2)))

FAULTY: list[tuple[Fault, View]] = [
    (Fault.CRASH, view(queued(ExitClass.CRASH, failures=1, retry_in_s=9.0))),
    (Fault.CRASH_LOOP, view(queued(ExitClass.CRASH, failures=2))),
    (Fault.HANG, view(line(silence_s=70.0, cores_busy=0.0))),
    (Fault.HANG, view(line(is_stopped=True, silence_s=3.0))),
    (Fault.HANG, view(line(state=LineState.STARTING, rows=(), silence_s=400.0, cores_busy=0.0))),
    (Fault.CRAWL, view(line(silence_s=70.0))),
    (Fault.CRAWL, view(line(rows=CRAWLING))),
    (Fault.FAIL_SLOW, view(line(rows=SLOW), line(2))),
    # The fault has lasted longer than the healthy time before it.
    (Fault.CRAWL, view(line(rows=tuple(rows((50, 0.2), (90, 1.0)))))),
    (Fault.FAIL_SLOW, view(line(rows=tuple(rows((50, 0.2), (90, 0.3)))), line(2))),
    (Fault.CONTENTION, view(line(rows=SLOW), line(2, rows=SLOW), host=BUSY)),
    (Fault.MEMORY, view(line(memory=leaking(5e6)))),
    (Fault.MEMORY, view(line(), host=replace(BUSY, memory_free_bytes=1e8))),
    (Fault.MEMORY, view(line(), host=replace(BUSY, memory_pressure=Pressure(some=0.6, full=0.3)))),
    (Fault.DIVERGENCE, view(line(rows=BAD))),
    (Fault.DIVERGENCE, view(line(rows=tuple(rows((50, 0.2)) + rows((4, 0.2), kl=5.0))))),
    (Fault.DIVERGENCE, view(queued(ExitClass.DIVERGED, failures=1))),
    (Fault.COLLAPSE, view(line(rows=LOST), line(2))),
    (Fault.STAGNATION, view(line(rows=FLAT))),
    (Fault.STAGNATION, view(line(rows=(*rows((9, 0.2)), replace(SLOW[-1], has_reached_threshold=True))))),
    (Fault.BAD_CHECKPOINT, view(line(checkpoint=CheckpointView(is_whole=False, missing_bytes=9)))),
    (Fault.OVER_BUDGET, view(meter=metered(4.0, 5.0, 6.0, 5.0))),
    (Fault.METER, view(meter=metered(-1.0, -1.0, age_s=9.0))),
    (Fault.METER, view(meter=metered(-1.0, tier_rank=5, best_tier_rank=0))),
    (Fault.METER, view(meter=metered(-50.0, -50.0, -50.0))),
    (Fault.DISK, view(host=HostView(disk_bytes=1e11, disk_free_bytes=1e9))),
    (Fault.LEDGER, view(line(outbox=((NOW - 70.0, 1e3), (NOW, 1e5))))),
    (Fault.FLOOR_DIED, view(floor_gap_s=20.0, floor_age_s=1.0)),
    (Fault.CLOCK, view(host=HostView(clock_jump_s=-30.0))),
    (Fault.CLOCK, view(num_duplicate_targets=1)),
]

# In each of these, only one of the two conditions holds, or the floor itself is the reason.
SOUND: list[tuple[str, View]] = [
    ("healthy lines", view(line(), line(2))),
    ("a retry that is due", view(queued(ExitClass.CRASH, failures=1))),
    ("silent, paused by the floor", view(line(state=LineState.PAUSED, silence_s=900.0, cores_busy=0.0))),
    ("silent for 30 s, iterations of 0.2 s", view(line(silence_s=30.0, cores_busy=0.0))),
    ("silent for 70 s, iterations of 20 s", view(line(rows=tuple(rows((60, 20.0))), silence_s=70.0))),
    ("slower by 10 %", view(line(rows=tuple(rows((30, 0.2), (20, 0.22)))))),
    ("a few slow iterations", view(line(rows=tuple(rows((30, 0.2), (14, 0.2), (4, 0.5)))))),
    ("all seeds slower, no crowd", view(line(rows=SLOW), line(2, rows=SLOW))),
    ("memory grows slowly", view(line(memory=leaking(1e5)))),
    ("one waits for memory", view(line(), host=replace(BUSY, memory_pressure=Pressure(some=0.6, full=0.01)))),
    ("memory jumps once", view(line(memory=tuple((t, 1e9 + 1e9 * (t > NOW - 30)) for t, _ in leaking(0))))),
    ("one bad sample", view(line(rows=(*rows((50, 0.2)), replace(rows((1, 0.2))[0], num_bad=1.0))))),
    ("all seeds lose", view(line(rows=LOST), line(2, rows=LOST))),
    ("rising", view(line(rows=tuple(rows((260, 0.2)))))),
    ("a spike of power", view(meter=metered(-1.0, -1.0, 9.0))),
    ("0.1 W above", view(meter=metered(0.1, 0.1, 0.1, 0.1))),
    ("a full small share of a huge disk", view(host=HostView(disk_bytes=1e13, disk_free_bytes=4e11))),
    ("a small outbox", view(line(outbox=((NOW - 70.0, 1e2), (NOW, 1e3))))),
    ("the clock drifts", view(host=HostView(clock_jump_s=0.01))),
    ("a long tick", view(host=HostView(clock_jump_s=3.0, tick_s=5.0))),
]


def seen(state: View) -> set[Fault]:
    """Return the faults that the detectors see in a view, those worth an alarm and others."""
    limits = Thresholds()
    return {finding.fault for detector in DETECTORS for finding in detector.detect(state, limits)}


@pytest.mark.parametrize(("fault", "state"), FAULTY, ids=lambda value: str(value)[:14])
def test_a_fault_is_found_and_no_other(fault: Fault, state: View) -> None:
    """The view of one fault leads to findings of its class alone."""
    assert seen(state) == {fault}


@pytest.mark.parametrize(("what", "state"), SOUND, ids=lambda value: str(value)[:30])
def test_one_condition_is_not_enough(what: str, state: View) -> None:
    """A number that is unusual and small, or large and usual, is no finding."""
    assert seen(state) == set()


def learned(*noises: float, sd: float) -> Iterator[float]:
    """Yield returns that rise from 0 to 60, and then stay there within noise."""
    draw = random.Random(0)
    for index, offset in enumerate([0.0] * 60 + list(noises)):
        yield min(index, 60) + offset + draw.gauss(0.0, sd)


def loses(returns: Iterable[float]) -> list[bool]:
    """Return after every tenth iteration whether a line with such returns counts as collapsed."""
    means = WindowMeans()
    healthy = line()
    found = []
    for index, value in enumerate(returns):
        means.add(value)
        if index % 10 == 9:
            state = view(replace(healthy, returns=tuple(means.means)))
            found.append(Fault.COLLAPSE in seen(state))
    return found


def test_noise_on_a_plateau_is_no_collapse_and_half_of_what_was_learned_is() -> None:
    """However long the plateau is: of many windows some are far below the best by chance."""
    plateau = [0.0] * 700
    assert not any(loses(learned(*plateau, sd=3.0)))
    assert not any(loses(learned(*plateau, *[-20.0] * 200, sd=3.0)))
    fallen = loses(learned(*plateau, *[-40.0] * 200, sd=3.0))
    assert not any(fallen[:76])
    assert fallen[-1]


def test_every_class_of_faults_has_a_detector_and_a_case() -> None:
    """The table has one detector for each of the 17 classes, and the cases above cover all."""
    assert [detector.fault for detector in DETECTORS].count(Fault.HANG) == 1
    assert {detector.fault for detector in DETECTORS} == set(Fault)
    assert {fault for fault, _ in FAULTY} == set(Fault)


@pytest.mark.parametrize(("fault", "state"), FAULTY, ids=lambda value: str(value)[:14])
def test_evidence_has_a_number_for_both_conditions(fault: Fault, state: View) -> None:
    """Every finding carries at least two numbers; those with a unit say which."""
    for detector in DETECTORS:
        for finding in detector.detect(state, Thresholds()):
            assert len(finding.evidence) >= 2
            assert all(one.name for one in finding.evidence)


def test_findings_open_after_confirmation_and_close_after_quiet() -> None:
    """One tick is no finding; a fault that returns within the quiet time is the same finding."""
    orientation = Orientation(Thresholds())
    faulty = view(line(silence_s=70.0, cores_busy=0.0))
    opened: list[float] = []
    closed: list[float] = []
    for second in range(20):
        is_faulty = second in (0, *range(2, 8), 9)
        state = replace(faulty if is_faulty else view(line()), now_s=float(second))
        new, gone = orientation.tick(state)
        opened += [state.now_s for _ in new]
        closed += [state.now_s for _ in gone]
    assert opened == [4.0]
    assert closed == [14.0]


def test_urgent_findings_come_first() -> None:
    """A critical finding precedes an older warning."""
    orientation = Orientation(Thresholds())
    orientation.tick(view(line(checkpoint=CheckpointView(is_whole=False, missing_bytes=9))))
    both = view(
        line(checkpoint=CheckpointView(is_whole=False, missing_bytes=9)),
        line(2, is_stopped=True),
        now_s=NOW + 1,
    )
    for second in range(4):
        orientation.tick(replace(both, now_s=NOW + 1 + second))
    assert [finding.severity for finding in orientation.open] == [Severity.CRITICAL, Severity.WARNING]
