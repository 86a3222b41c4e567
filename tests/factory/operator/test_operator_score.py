"""Score of the operator: measures of a trace, model floors, the book of trials, a fault in a real line."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from factory import cli
from factory.floor.lines import ExitClass, LineState
from factory.floor.store import Store
from factory.intervals import poisson_rate
from factory.operator.scoring import live, replay, summary
from factory.operator.scoring.cases import BY_NAME, CASES, QUIET
from factory.operator.scoring.command import Book
from factory.operator.scoring.config import ScoreConfig
from factory.operator.scoring.injections import INJECTIONS
from factory.operator.scoring.library import FloorTick, Library, LineTick, read
from factory.operator.scoring.measure import Outcome, measure
from factory.operator.scoring.scene import Scene
from factory.operator.view import CheckpointView, HostView, Row
from factory.operator.words import Fault

_TOKENS = 4000.0
"""Of a line in each tick of a second."""


def line(index: int, **changes: Any) -> LineTick:
    """Return a line that runs at four iterations a second, with a checkpoint each five seconds."""
    draw = random.Random(index)
    rows = [
        Row(
            seen_s=0.0,
            steps=1000,
            iteration_s=0.25 * draw.lognormvariate(0.0, 0.05),
            tokens_per_s=_TOKENS,
            return_mean=draw.gauss(10.0, 1.0),
            approx_kl=0.01,
        )
        for _ in range(4)
    ]
    tick = LineTick(
        state=LineState.RUNNING,
        exit_class=None,
        attempts=1,
        failures=0,
        retry_in_s=0.0,
        is_stopped=False,
        cores_busy=0.95,
        cores=1.0,
        cpus=(0,),
        predicted_w=5.0,
        tokens_per_s=_TOKENS,
        power_w=6.0,
        rows=tuple(rows),
        tokens=_TOKENS,
        memory=5e8 + draw.random() * 1e6,
        outbox=None,
        unsaved_steps=(index % 5) * 4000,
        checkpoint=CheckpointView(age_s=float(index % 5), interval_s=5.0),
    )
    return replace(tick, **changes)


def floor(index: int, **changes: Any) -> FloorTick:
    """Return a floor with that line, changed."""
    host = HostView(num_cores=2.0, cores_busy=1.0, cpus_busy=(1.0, 0.1), load=1.0, disk_bytes=1e11)
    return FloorTick(
        elapsed_s=1.0,
        host=host,
        power_w=10.0,
        limit_w=inf,
        tier_rank=5,
        best_tier_rank=5,
        sample_age_s=0.1,
        floor_gap_s=0.0,
        floor_age_s=100.0 + index,
        num_duplicate_targets=0,
        lines={1: line(index, **changes)},
    )


@pytest.fixture(scope="module")
def library() -> Library:
    """Return recordings of a line that runs, one that somebody stopped, and one that was killed."""
    stopped = {"rows": (), "tokens": 0.0, "is_stopped": True, "cores_busy": 0.0, "power_w": 0.0}
    dead = {"rows": (), "tokens": 0.0, "exit_class": ExitClass.KILLED, "failures": 1}
    crash = [
        floor(0, state=LineState.QUEUED, retry_in_s=5.0, **dead),
        floor(1, state=LineState.QUEUED, retry_in_s=4.0, **dead),
        *(floor(index, state=LineState.STARTING, attempts=2, **dead) for index in range(6)),
        *(floor(index, attempts=2) for index in range(10)),
    ]
    return Library(
        healthy={(1, 1.0): [[floor(index) for index in range(40)]]},
        faults={"hang": [[floor(index, **stopped) for index in range(12)]], "crash": [crash]},
        start_s=7.0,
    )


def test_every_case_can_be_injected_and_every_fault_but_two_has_a_case() -> None:
    """Collapse and stagnation need a long training, so that no tiny line has them."""
    assert set(INJECTIONS) == {case.name for case in (*CASES, QUIET)}
    found = frozenset().union(*(case.finds for case in CASES))
    assert set(Fault) - found == {Fault.COLLAPSE, Fault.STAGNATION}


@pytest.mark.slow
def test_rule_repairs_what_nobody_would_and_oracle_is_a_bound(library: Library) -> None:
    """A stopped line loses all without an operator, a few seconds with rules, less with foresight."""
    case = BY_NAME["hang"]
    none, rule, oracle = (
        replay.trial(case, decider=name, seed=0, library=library) for name in ("none", "rule", "oracle")
    )
    assert (none.is_found, none.repair_s, none.actions) == (True, None, 0)
    assert none.lost_tokens == pytest.approx(none.usual_tokens / 3.0, rel=0.02)
    assert (rule.actions, rule.wrong, rule.losses, rule.alarms) == (1, 0, 0, 0)
    assert rule.latency_s == pytest.approx(3.0)
    assert oracle.lost_tokens <= rule.lost_tokens < 0.1 * none.lost_tokens
    again = replay.trial(case, decider="rule", seed=0, library=library)
    timeless = {"cpu_s": 0.0, "longest_tick_s": 0.0}
    assert replace(again, **timeless) == replace(rule, **timeless)


def test_a_killed_line_goes_on_by_itself_and_sooner_if_told(library: Library) -> None:
    """The waiting time of the floor is all that can be saved."""
    none, rule = (
        replay.trial(BY_NAME["crash"], decider=name, seed=1, library=library) for name in ("none", "rule")
    )
    assert none.repair_s is not None
    assert rule.repair_s == pytest.approx(none.repair_s - 1.0)
    assert rule.lost_tokens == pytest.approx(none.lost_tokens - _TOKENS, rel=0.01)


def tick(t_s: float, **changes: Any) -> dict[str, Any]:
    """Return a tick of a trace with one line."""
    plain = {
        "t": t_s,
        "open": [],
        "decisions": [],
        "states": {1: "running"},
        "moved": {1: t_s},
        "tokens": {1: 100.0 * t_s},
        "joules": {1: 10.0 * t_s},
        "power_w": 10.0,
        "limit_w": None,
        "cost": {"cpu_s": 0.0, "ticks": 0.0, "longest_tick_s": 0.0},
    }
    return plain | changes


def judged(case: str, ticks: list[dict[str, Any]]) -> Outcome:
    """Return the outcome of a trace in which the fault began at 10 s."""
    return measure(
        BY_NAME[case],
        ticks,
        decider="rule",
        seed=0,
        kind="live",
        target=1,
        injected_s=10.0,
        usual_tokens=500.0,
        joules_per_token=0.1,
    )


def test_measures_tell_right_from_wrong() -> None:
    """A cancelled line that only hung is a loss, a finding of another line an alarm, a restart is right."""
    ticks = [
        tick(9.0),
        tick(10.0),
        tick(11.0, open=[["hang:1", 2], ["crawl:2", 1], ["stagnation:1", 0]], states={1: "running"}),
        tick(12.0, open=[["hang:1", 2]], decisions=[[1, "restart", 1, "acting", "hang:1"]]),
        tick(13.0, decisions=[[1, "restart", 1, "done", "hang:1"], [2, "cancel", 1, "done", "hang:1"]]),
    ]
    found = judged("hang", ticks)
    assert (found.is_found, found.latency_s, found.repair_s) == (True, 1.0, 3.0)
    assert (found.alarms, found.actions, found.wrong, found.losses) == (1, 2, 1, 1)
    assert (found.lost_tokens, found.wasted_j) == (200.0, 0.0)


def test_measures_count_energy_above_the_budget() -> None:
    """Two seconds at 4 W above it are 8 W s."""
    ticks = [tick(10.0, limit_w=6.0), tick(11.0, limit_w=6.0), tick(12.0, limit_w=6.0)]
    assert judged("over_budget", ticks).over_budget_ws == pytest.approx(8.0)


def test_poisson_interval_is_garwoods() -> None:
    """Ulm 1990 prints 0 events as [0, 3.69] and 10 events as [4.80, 18.39]."""
    none = poisson_rate(0, 1.0)
    assert (none.value, none.lo) == (0.0, 0.0)
    assert none.hi == pytest.approx(3.689, abs=1e-3)
    ten = poisson_rate(10, 2.0)
    assert (ten.value, 2.0 * ten.lo, 2.0 * ten.hi) == pytest.approx((5.0, 4.795, 18.390), abs=1e-3)


def test_book_goes_on_after_a_crash(library: Library, tmp_path: Path) -> None:
    """Whole lines count, a half-written one is done again."""
    file = tmp_path / "trials.jsonl"
    outcome = judged("hang", [tick(10.0), tick(11.0)])
    Book(file).add(outcome)
    with file.open("a") as unfinished:
        unfinished.write('{"case": "ha')
    book = Book(file)
    assert book.outcomes == [outcome]
    book.add(replace(outcome, seed=1))
    assert [one.seed for one in Book(file).outcomes] == [0, 1]


def test_rows_and_totals_pool_trials() -> None:
    """Recall counts all trials; losses are compared with the oracle's."""
    base = judged("hang", [tick(10.0), tick(11.0, open=[["hang:1", 2]])])
    outcomes = [
        base,
        replace(base, seed=1, is_found=False, latency_s=None),
        replace(base, decider="oracle", lost_tokens=100.0),
    ]
    row, _ = summary.rows(outcomes)
    assert (row["found"], row["trials"], row["latency_s"]) == (1, 2, 1.0)
    assert row["lost_against_oracle"] == base.lost_tokens - 100.0
    assert summary.totals(outcomes)[0]["recall"] == 0.5


@pytest.mark.parametrize(
    "override", ["classes=nothing", "deciders=coin", "seeds=-1", "live=1e9", "out=table.txt", "colour=red"]
)
def test_mistakes_name_the_key(override: str) -> None:
    """One line names key or argument."""
    with pytest.raises(ValueError, match=override.partition("=")[0]) as caught:
        cli.parse(ScoreConfig, [override])
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder of a trial below its name."""
    yield tmp_path / "hang-none-0"


@pytest.mark.slow
def test_a_real_line_that_was_stopped_is_found_and_recorded(folder: Path) -> None:
    """The trial ends with its outcome, and its recording makes a model floor that has the same fault."""
    case = replace(BY_NAME["hang"], usual_rows=12, watch_s=6.0, settings=("checkpoint_every=5",))
    outcome = live.trial(case, decider="none", seed=0, folder=folder)
    assert outcome.is_found
    assert outcome.latency_s is not None
    assert outcome.latency_s < 5.0
    assert outcome.repair_s is None
    (fault,) = read(folder.parent).faults["hang"]
    assert fault[-1].lines[1].is_stopped


@pytest.mark.slow
def test_a_sickness_befalls_one_line(tmp_path: Path) -> None:
    """The second line of a scene looks elsewhere."""
    scene = Scene(tmp_path, BY_NAME["memory"], overrides=[], seed=3)
    for seed in (3, 4):
        scene.submit(seed=seed)
    INJECTIONS["memory"].harm(scene)
    with Store(scene.root) as store:
        settings = [dict(text.split("=", 1) for text in line.overrides) for line in store.lines()]
    folders = [Path(one["task.folder"]) for one in settings]
    assert [(folder / "sickness").exists() for folder in folders] == [True, False]
