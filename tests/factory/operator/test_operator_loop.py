"""The loop of the operator on a floor of numbers: choices, approval, guard, effects, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from operator_plant import Plant, make, run

from factory.floor.lines import ExitClass, LineState
from factory.floor.store import Store
from factory.operator import guard
from factory.operator.config import OperatorConfig
from factory.operator.journal import Journal
from factory.operator.view import CheckpointView, LineView, MeterView, Row, View
from factory.operator.words import Candidate, Mode, Status, Verb


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    with Store(tmp_path, create=True) as store:
        yield store


def decisions(store: Store) -> list[tuple[str, str]]:
    """Return action and status of all decisions."""
    return [(one.candidate.verb.value, one.status.value) for one in Journal(store).decisions()]


def test_auto_acts_verifies_and_says_so(store: Store) -> None:
    """A stopped line goes on; decision, act, effect and cure are in the chain, which verifies."""
    plant = Plant()
    run(make(store, plant), plant, 12)
    assert plant.acts == ["continue"]
    assert decisions(store) == [("continue", "done")]
    kinds = [event.kind.removeprefix("operator ") for event in reversed(store.events())]
    assert kinds == ["finding", "decision", "acting", "effective", "cleared", "done"]
    assert store.verify_events() == len(kinds)


def test_suggest_waits_for_approval(store: Store) -> None:
    """Nothing is changed until a person approves; an unknown number changes nothing."""
    plant = Plant()
    operator = make(store, plant, Mode.SUGGEST)
    run(operator, plant, 5)
    assert (plant.acts, decisions(store)) == ([], [("continue", "proposed")])
    assert "not among" in operator.approve(7)
    assert "carried out" in operator.approve(1)
    run(operator, plant, 8)
    assert (plant.acts, decisions(store)) == (["continue"], [("continue", "done")])


def test_observe_decides_nothing(store: Store) -> None:
    """The finding is on record, no decision is."""
    plant = Plant()
    run(make(store, plant, Mode.OBSERVE), plant, 5)
    assert (plant.acts, decisions(store)) == ([], [])
    assert store.events()[0].kind == "operator finding"


def test_auto_leaves_to_people_what_is_not_allowed(store: Store) -> None:
    """An action outside the list stays a proposal."""
    plant = Plant()
    run(make(store, plant, config=OperatorConfig(allow=["alert"])), plant, 5)
    assert (plant.acts, decisions(store)) == ([], [("continue", "proposed")])


def test_an_action_without_effect_fails_and_the_next_one_is_tried(store: Store) -> None:
    """It is not tried again in this context, and after some failures nothing is, until the reset."""
    plant = Plant()
    plant.is_deaf = True
    config = OperatorConfig(verify_s=5.0, dwell_s=0.0, breaker=2)
    operator = make(store, plant, config=config)
    run(operator, plant, 40)
    assert plant.acts == ["continue", "restart"]
    assert operator.is_broken
    plant.is_deaf = False
    plant.line = replace(plant.line, state=LineState.STARTING, is_stopped=True)
    run(operator, plant, 10)
    assert plant.acts == ["continue", "restart"]
    operator.reset()
    assert not operator.is_broken
    assert not make(store, plant).is_broken


def test_an_action_that_does_not_cure_is_undone(store: Store) -> None:
    """A line that still crawls on other CPUs gets its own back, and the move is not repeated."""
    plant = Plant()
    plant.line = replace(plant.line, is_stopped=False, silence_s=400.0, cores_busy=0.4)
    config = OperatorConfig(cure_s=10.0, dwell_s=0.0)
    run(make(store, plant, config=config), plant, 20)
    assert plant.acts[0] == "rebind"
    assert plant.undone == ["rebind"]
    assert plant.line.cpus == (0,)
    assert plant.acts[1] == "restart"


def test_a_killed_operator_goes_on_where_it_was(store: Store) -> None:
    """What was journaled as under way is read back, not done a second time."""
    plant = Plant()
    plant.is_deaf = True
    run(make(store, plant), plant, 4)
    assert decisions(store) == [("continue", "acting")]
    plant.line = replace(plant.line, is_stopped=False)
    run(make(store, plant), plant, 8)
    assert plant.acts == ["continue"]
    assert decisions(store) == [("continue", "done")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"meter": MeterView(samples=((0.0, 1.0, 9.0),), sample_age_s=30.0)}, "30 s old"),
        ({"meter": MeterView(limit_w=9.0, samples=((0.0, 5.0, 9.0),))}, "no power for it"),
    ],
)
def test_stale_data_and_budget_stop_what_adds_power(
    store: Store, changes: dict[str, MeterView], reason: str
) -> None:
    """A line that would draw 5 W stays stopped while the meter is silent or the budget is used up."""
    plant = Plant()
    plant.line = replace(plant.line, power_w=5.0)
    plant.meter = changes["meter"]
    run(make(store, plant), plant, 5)
    assert plant.acts == []
    waits = [event for event in store.events() if event.kind == "operator waits"]
    assert [reason in event.details["reason"] for event in waits] == [True]


def test_a_line_is_left_alone_while_it_writes_a_checkpoint(store: Store) -> None:
    """A damaged checkpoint is replaced only when no other is being written."""
    plant = Plant()
    writing = CheckpointView(is_whole=False, missing_bytes=1, is_being_written=True, age_s=1.0)
    plant.line = replace(plant.line, is_stopped=False, checkpoint=writing)
    operator = make(store, plant)
    run(operator, plant, 5)
    assert plant.acts == []
    plant.line = replace(plant.line, checkpoint=replace(writing, is_being_written=False))
    run(operator, plant, 3)
    assert plant.acts == ["checkpoint_restart"]


@pytest.mark.parametrize(("interval_s", "is_frozen"), [(60.0, True), (2.0, False)])
def test_the_freeze_before_a_checkpoint_leaves_time_between_them(interval_s: float, is_frozen: bool) -> None:
    """A line is left alone a second before its checkpoint, but not if one follows upon the other."""
    seen = CheckpointView(age_s=interval_s - 1.0, interval_s=interval_s)
    view = View(now_s=0.0, lines=(LineView(id=1, state=LineState.RUNNING, checkpoint=seen),))
    restart = Candidate(verb=Verb.RESTART, line=1)
    assert bool(guard.obstacle(restart, view, [], OperatorConfig(), is_broken=False)) is is_frozen


def test_actions_of_an_hour_are_counted(store: Store) -> None:
    """Beyond the number, proposals wait."""
    plant = Plant()
    operator = make(store, plant, config=OperatorConfig(actions_per_hour=1, dwell_s=0.0))
    run(operator, plant, 12)
    plant.line = replace(plant.line, is_stopped=True)
    run(operator, plant, 6)
    assert plant.acts == ["continue"]
    assert decisions(store)[-1] == ("continue", "proposed")


def test_people_are_told_once(store: Store) -> None:
    """A fault that only people can mend leads to one alert."""
    plant = Plant()
    plant.line = replace(plant.line, is_stopped=False)
    plant.host = replace(plant.host, clock_jump_s=60.0)
    run(make(store, plant), plant, 30)
    assert decisions(store) == [("alert", "done")]


def test_what_becomes_possible_after_the_alert_is_done(store: Store) -> None:
    """A slow line moves as soon as another CPU is free, although people were told that none was."""
    plant = Plant()
    times = [0.2] * 40 + [0.4] * 20
    rows = [
        Row(seen_s=0.0, steps=index, iteration_s=seconds, tokens_per_s=1.0)
        for index, seconds in enumerate(times)
    ]
    plant.line = replace(
        plant.line, is_stopped=False, cores_busy=0.5, rows=tuple(rows), usual=tuple(times), total_steps=1000
    )
    plant.host = replace(plant.host, cpus_busy=(1.0, 1.0))
    operator = make(store, plant)
    run(operator, plant, 25)
    assert decisions(store) == [("alert", "done")]
    plant.host = replace(plant.host, cpus_busy=(1.0, 0.0))
    run(operator, plant, 2)
    assert plant.acts == ["rebind"]


def test_a_crash_is_retried_at_once(store: Store) -> None:
    """The line that waits ten seconds is started in the first tick."""
    plant = Plant()
    plant.line = LineView(
        id=1, state=LineState.QUEUED, exit_class=ExitClass.CRASH, failures=1, retry_in_s=10.0
    )
    operator = make(store, plant)
    operator.tick()
    assert plant.acts == ["retry_now"]
    assert Journal(store).decisions()[0].status is Status.ACTING


def test_a_cause_that_comes_back_is_not_retried_in_haste(store: Store) -> None:
    """After the second failure in a row the line waits as long as the floor says."""
    plant = Plant()
    plant.line = LineView(
        id=1, state=LineState.QUEUED, exit_class=ExitClass.CRASH, failures=2, retry_in_s=20.0
    )
    run(make(store, plant), plant, 3)
    assert plant.acts == []


@pytest.mark.parametrize(("free_bytes", "acts"), [(1e9, []), (1e6, ["hold"])])
def test_a_nearly_full_disk_stops_no_line_while_its_checkpoints_fit(
    store: Store, free_bytes: float, acts: list[str]
) -> None:
    """People are told; the line is paused once its next checkpoint may find no room."""
    plant = Plant()
    written = CheckpointView(size_bytes=1_000_000)
    plant.line = replace(plant.line, is_stopped=False, flex=1, checkpoint=written)
    plant.host = replace(plant.host, disk_bytes=1e11, disk_free_bytes=free_bytes)
    run(make(store, plant), plant, 5)
    assert plant.acts == acts
