"""Every question is answered by its query, from a store that it cannot change."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.floor import store as store_module
from factory.floor.command_line import main
from factory.floor.lines import Attempt, ExitClass, Line, LineState, Needs
from factory.floor.questions import QUESTIONS
from factory.floor.questions.answer import Answer, answer, reading
from factory.floor.questions.matching import Choice, NearWords
from factory.floor.questions.question import Parameters
from factory.floor.records import RUNNING, Sample
from factory.floor.shift import shift_answers
from factory.floor.store import FILE, Store
from factory.grid import signals
from factory.grid.costs import COST
from factory.grid.intake import SETTINGS
from factory.grid.signals import Kind, Point
from factory.operator.journal import Journal
from factory.operator.own_cost import OwnCost
from factory.operator.words import Candidate, Evidence, Fault, Finding, Severity, Status, Verb

START = 1_795_694_400.0
"""An hour of the clock, 2026-11-26 12:00 UTC."""


class Clock:
    """The time of the store."""

    def __init__(self) -> None:
        """Begin at the full hour."""
        self.now = START

    def time(self) -> float:
        """Return seconds since 1970."""
        return self.now


def line(name: str, **changes: Any) -> Line:
    """Return a line to submit."""
    known = {"task": "cartpole_swingup", "overrides": (), "spec_hash": name, "total_steps": 1000}
    return Line(id=0, name=name, needs=Needs(cores=1.0, memory_bytes=1), **(known | changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a floor after an hour: a line that was pre-empted, one that crashed, one that waits."""
    folder = tmp_path_factory.mktemp("floor")
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch, Store(folder, create=True) as store:
        patch.setattr(store_module, "time", clock)
        store.add_line(line("first", owner="ann"))
        store.add_line(line("second", owner="bob", task="reach"))
        store.add_line(line("[red]third", owner="bob", deadline=START + 7200.0))
        for minutes, number, state, reason in (
            (2, 1, "starting", "first in the queue"),
            (3, 1, "running", "runs"),
            (10, 1, "preempting", "line 2 needs the place"),
            (11, 1, "queued", "pre-empted"),
            (12, 2, "starting", "first in the queue"),
            (13, 2, "running", "runs"),
            (20, 2, "paused", "40.0 W are over the budget"),
            (25, 2, "running", "power was free again"),
            (30, 2, "failed", "a crash"),
            (31, 1, "starting", "first in the queue"),
            (32, 1, "running", "runs"),
        ):
            clock.now = START + 60.0 * minutes
            store.move(store.line(number), LineState(state), reason)
        store.update(1, tokens=4000, joules=40.0, waste_j=0.0, steps=500, tokens_per_s=10.0)
        store.update(2, tokens=1000, joules=30.0, waste_j=30.0)
        store.add_attempt(
            Attempt(
                line=2,
                number=1,
                folder="f",
                handle=None,
                started_at=START + 720.0,
                steps_from=0,
                ended_at=START + 1800.0,
                exit_class=ExitClass.CRASH,
                root_cause="ValueError",
            )
        )
        store.finish_command(_pending(store, "priority", 3), "line 3 has priority 5")
        for second in range(0, 3600, 10):
            budget_w = None if second < 1200 else 20.0
            # 10 W in the first half hour, 30 W in the other.
            power_w = 10.0 if second < 1800 else 30.0
            joules = 10.0 * min(second, 1800) + 30.0 * max(0, second - 1800)
            store.add_sample(
                Sample(
                    at=START + second,
                    budget_w=budget_w,
                    power_w=power_w,
                    joules=joules,
                    tokens=2 * second,
                    tokens_per_s=2.0,
                    cpu_s=0.5 * second,
                    running=1,
                )
            )
        half = START + 1800.0
        signals.join(
            store, Kind.PRICE, [Point(START, half, 0.36, START), Point(half, half + 900.0, 0.72, START)]
        )
        signals.join(store, Kind.PRICE, [Point(START, half, 9.0, START + 1.0, is_forecast=True)])
        store.put(SETTINGS, {"pue": 1.5})
        store.put(RUNNING, {"tier": "estimated"})
        store.put(COST.of(1), {"usd": 0.5, "gco2e_average": 7.0})
        _operate(store)
        own = OwnCost(store)
        for second in range(61):
            own.add(0.002 + 0.001 * (second == 30), float(second))
    yield folder


def _pending(store: Store, verb: str, number: int) -> Any:
    store.add_command(verb, line=number, priority=5)
    return store.pending_commands()[0]


def _operate(store: Store) -> None:
    journal = Journal(store)
    journal.record("finding", line=2, id="crash:2", severity="WARNING", evidence=[])
    evidence = (Evidence(name="x", value=1.0, unit="", limit=0.0),)
    finding = Finding(fault=Fault.CRASH, line=2, severity=Severity.WARNING, evidence=evidence)
    done = journal.propose(finding, Candidate(verb=Verb.RETRY_NOW, line=2), by="rule")
    journal.change(done, Status.DONE, "gone after 3.0 s")
    journal.propose(finding, Candidate(verb=Verb.CANCEL, line=2, predicted_w=-5.0), by="rule")


def asked(root: Path, name: str, **values: Any) -> tuple[Answer, list[dict[str, Any]]]:
    """Return the answer to a question at the end of the hour, and its rows by column."""
    choice = Choice(question=QUESTIONS[name], parameters=Parameters(**values))
    with reading(root) as connection:
        found = answer(connection, choice, now=START + 3600.0)
    return found, [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_lines_are_told_as_the_store_has_them(root: Path) -> None:
    """Lines that run, wait, broke and were interrupted, with their minutes."""
    (running,) = asked(root, "running")[1]
    assert (running["id"], running["minutes"], running["percent_done"]) == (1, 28.0, 50.0)
    ran = {row["id"]: row["minutes_running"] for row in asked(root, "ran")[1]}
    assert ran == {1: 7.0 + 28.0, 2: 12.0}
    (waiting,) = asked(root, "next")[1]
    assert (waiting["id"], waiting["deadline_utc"]) == (3, "2026-11-26 14:00:00")
    broke = asked(root, "broke")[1]
    assert {row["event"] for row in broke} == {"attempt 1 ended: crash", "finding crash:2"}
    interrupted = {row["id"]: (row["pre_emptions"], row["pauses"]) for row in asked(root, "preempted")[1]}
    assert interrupted == {1: (1, 0), 2: (0, 1)}
    waited = {row["id"]: row for row in asked(root, "waited")[1]}
    assert [waited[number]["minutes_queued"] for number in (1, 2, 3)] == [2.0 + 20.0, 12.0, 60.0]
    assert (waited[2]["minutes_paused"], waited[2]["minutes_running"]) == (5.0, 12.0)
    # Only the last half hour: line 1 waited for another minute of it.
    waited = {row["id"]: row for row in asked(root, "waited", hours=0.5)[1]}
    assert (waited[1]["minutes_queued"], waited[1]["minutes_running"]) == (1.0, 28.0)
    assert asked(root, "deadlines")[1][0]["minutes_left"] == 60.0
    assert [row["after"] for row in asked(root, "history", line=2)[1]][-3:] == ["running", "starting", None]
    assert {row["owner"]: row["failed"] for row in asked(root, "owners")[1]} == {"ann": 0, "bob": 1}
    assert asked(root, "orders")[1][0]["outcome"] == "line 3 has priority 5"


def test_energy_money_and_budget_add_up(root: Path) -> None:
    """Joules by task and hour, money at the price of the moment, and watt seconds above the budget."""
    costs = asked(root, "costliest")[1]
    assert [(row["id"], row["joules"], row["usd"]) for row in costs[:2]] == [(1, 40.0, 0.5), (2, 30.0, None)]
    per_token = {row["task"]: row["joules_per_token"] for row in asked(root, "joules_per_token")[1]}
    assert per_token == {"cartpole_swingup": 0.01, "reach": 0.03}
    (waste,) = asked(root, "waste")[1]
    assert (waste["id"], waste["waste_j"], waste["failed_attempts"], waste["ends"]) == (2, 30.0, 1, "crash")
    (excess,) = asked(root, "over_budget")[1]
    # 10 W for each of 180 samples, 10 s apart.
    assert (excess["watt_seconds_over"], excess["most_watts_over"]) == (18000.0, 10.0)
    (cost,) = asked(root, "cost_by_hour")[1]
    # The actual price counts, not the forecast, and energy at the end of its interval of 10 s: 17.9 kJ at
    # 0.36 USD/kWh, then 26.8 kJ at 0.72, with the PUE; for the last quarter of an hour there is no price.
    assert cost["usd"] == pytest.approx(1.5 * (17_900.0 * 0.36 + 26_800.0 * 0.72) / 3.6e6)
    assert cost["unpriced_joules"] == 27_000.0
    assert (cost["gco2e"], cost["uncounted_joules"]) == (None, cost["joules"])
    (hour,) = asked(root, "by_hour")[1]
    assert (hour["tokens"], hour["cpu_s"], hour["lines_running"]) == (7180, 1795.0, 1.0)


def test_operator_is_asked_like_the_lines(root: Path, tmp_path: Path) -> None:
    """Actions with their results and open proposals; a floor without an operator says so."""
    done = asked(root, "done")[1]
    assert [(row["verb"], row["status"], row["note"]) for row in done] == [
        ("cancel", "proposed", ""),
        ("retry_now", "done", "gone after 3.0 s"),
    ]
    (open_one,) = asked(root, "suggested")[1]
    assert (open_one["verb"], open_one["predicted_w"]) == ("cancel", -5.0)
    (cost,) = asked(root, "operator_cost", hours=10_000.0)[1]
    # The node took 2 W for each CPU, as 53.7 kJ and 18 kJ in 1790 s of CPU time.
    joules = 0.123 * (18_000.0 + 30.0 * 1790.0) / 1795.0
    assert (cost["ticks"], cost["cpu_s"], cost["ms_longest_tick"]) == (61, 0.123, 3.0)
    assert cost["joules"] == pytest.approx(joules, abs=1e-3)
    assert cost["percent_of_a_core"] == pytest.approx(0.205)
    with Store(tmp_path, create=True):
        pass
    found, rows = asked(tmp_path, "done")
    assert (found.note, rows) == ("no operator has watched this floor", [])


def test_every_question_has_an_answer_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    """All queries run, on a full floor and on an empty one, over a connection that refuses to write."""
    before = (root / FILE).read_bytes()
    with Store(tmp_path, create=True):
        pass
    for name, question in QUESTIONS.items():
        values = {"line": 1} if "line" in question.parameters else {}
        found, _ = asked(root, name, **values)
        assert all(f":{bound}" in found.query for bound in found.bindings)
        assert found.tier == "estimated"
        if not values:
            asked(tmp_path, name)
    assert (root / FILE).read_bytes() == before
    with reading(root) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM line")


def test_report_of_a_shift_is_made_of_answers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that ran, money, faults, the operator's actions and suggestions, and its own cost."""
    found = shift_answers(root, since=START, now=START + 3600.0)
    assert [row["id"] for row in found["ran"]] == [1, 2]
    assert found["money"]["usd"] == asked(root, "cost_by_hour")[1][0]["usd"]
    assert len(found["operator"]["broke"]) == 2
    assert [row["verb"] for row in found["operator"]["done"]] == ["retry_now"]
    assert [row["verb"] for row in found["operator"]["suggests"]] == ["cancel"]
    assert call("report", "--root", str(root)) == 0
    text = capsys.readouterr().out
    assert "broke             2026-11-26" in text
    # Actions carry the time at which they were written down, which is now.
    assert re.search(r"^operator did      \d{4}-\d\d-\d\d .*retry_now", text, re.MULTILINE)
    assert "operator suggests cancel for crash:2: approve 2" in text
    assert "61 ticks" in text
    page = (root / "floor.html").read_text()
    assert "approve 2" in page


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("what runs", "running"),
        ("which lines were pre-empted, how often?", "preempted"),
        ("how often was line 3 interruptd", "preempted"),
        ("what broke last night", "broke"),
        ("which jobs crashed", "broke"),
        ("joules per token by task", "joules_per_token"),
        ("what did the most expensive lines cost", "costliest"),
        ("gCO2 by hour", "cost_by_hour"),
        ("what is next to start and why not now", "next"),
        ("what did the operator do today", "done"),
        ("what does the operator sugest", "suggested"),
        ("how long did lines wait", "waited"),
        ("budget violations in W*s", "over_budget"),
        ("deadlines at risk", "deadlines"),
        ("energy wasted", "waste"),
        ("hourly power", "by_hour"),
        ("what happened to line 2", "history"),
        ("operator overhead", "operator_cost"),
        ("orders given by hand", "orders"),
        ("who used most", "owners"),
        ("over budget", "over_budget"),
    ],
)
def test_sentences_find_their_question(text: str, name: str) -> None:
    """Other words and slips of the keyboard do not matter."""
    assert NearWords(QUESTIONS).choose(text).question.name == name


def test_sentences_name_parameters() -> None:
    """A number of hours, days or minutes, and the id of a line."""
    chooser = NearWords(QUESTIONS)
    assert chooser.choose("what broke in the last 2 days").parameters.hours == 48.0
    assert chooser.choose("what broke in the last 90 min").parameters.hours == 1.5
    assert chooser.choose("what happened to line 12").parameters.line == 12
    assert chooser.choose("how often was line 3 paused").note.endswith("line=3 is left out")


def call(*arguments: str) -> int:
    """Run a command and return its exit status."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def test_command_prints_query_and_answer(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The query stands above the answer; JSON has both; without words all questions are listed."""
    assert call("ask", "which lines cost most", "rows=1", "--root", str(root)) == 0
    text = capsys.readouterr().out
    assert "FROM line LEFT JOIN state" in text
    assert ":rows = 1" in text
    assert "joules, watts and values derived from them: estimated" in text
    assert call("ask", "next", "--root", str(root)) == 0
    text = capsys.readouterr().out
    assert "[red]third" in text
    assert "estimated" not in text
    assert call("ask", "joules_per_token", "--root", str(root), "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["rows"][0]["task"] == "reach"
    assert plain["question"] == "joules_per_token"
    assert call("ask", "--root", str(root)) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(QUESTIONS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show me the weather",), "no question fits"),
        (("broke", "hours=soon"), "hours=soon: must be a number"),
        (("broke", "hours=-1"), "hours=-1.0: must be a time > 0"),
        (("broke", "rows=1;DROP TABLE line"), "must be a number"),
        (("running", "hours=3"), "hours=3: running takes rows only"),
        (("broke hours=soon",), "hours=soon: must be a number"),
        (("broke", "seconds=3"), "choose from hours, rows, line"),
        (("history",), "line: name one"),
        (("history", "line=99"), "line=99: not on this floor"),
        (("history", "line=1.5"), "must be a whole number"),
        (("broke", "hours=nan"), "must be a time"),
    ],
)
def test_mistakes_are_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """The line names the value and the remedy."""
    assert call("ask", *words, "--root", str(root)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error


def test_floor_that_is_not_there_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made where there is no floor."""
    assert call("ask", "broke", "--root", str(tmp_path / "none")) == 2
    assert "no floor there" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
