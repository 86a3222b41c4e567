"""The language model: it may choose among candidates; whatever goes wrong, the rule's action is taken."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from floor_lines import make_line
from operator_plant import Plant, make, run

from factory.floor.audit import Event
from factory.floor.command_line import main
from factory.floor.engines import ENGINES
from factory.floor.floor_books import BOOKS
from factory.floor.lines import ExitClass
from factory.floor.loop import Floor
from factory.floor.rules import Rules
from factory.floor.store import Store
from factory.operator.command import OperatorWatcher
from factory.operator.config import OperatorConfig
from factory.operator.deciders import llm_books
from factory.operator.deciders.chat import clean
from factory.operator.deciders.llm import LlmRanker
from factory.operator.journal import Journal
from factory.operator.llm_config import LlmConfig
from factory.operator.operator import Operator
from factory.operator.replay import Recorded, ReplayEndpoint, ReplayMode
from factory.operator.words import Candidate, Decision, Fault, Mode, Status, Verb

_SLOW = (ReplayMode.SLOW, ReplayMode.ENDLESS)
_SITUATION = {"fault": "hang", "verbs": ("alert", "continue", "restart", "hold"), "rule": "continue"}


def recorded(choice: str, **changes: Any) -> Recorded:
    """Return an answer for the plant's stopped line."""
    return Recorded(
        **_SITUATION | {"choice": choice, "rationale": "reason", "tokens_in": 300, "tokens_out": 20} | changes
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ReplayEndpoint]:
    """Return an endpoint that chooses to restart the line."""
    with ReplayEndpoint([recorded("restart")]) as endpoint:
        yield endpoint


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    with Store(tmp_path, create=True) as store:
        yield store


def settings(endpoint: ReplayEndpoint, **changes: Any) -> LlmConfig:
    """Return settings for an endpoint."""
    values = {"base_url": endpoint.base_url, "model": "small", "deadline_s": 5.0}
    return LlmConfig(**values | changes)


def decide(store: Store, plant: Plant, config: LlmConfig, mode: Mode = Mode.AUTO) -> Operator:
    """Let an operator find that the line is stopped, hear the language model, and see what becomes of it."""
    ranker = LlmRanker(config, Journal(store))
    operator = make(store, plant, mode, OperatorConfig(dwell_s=0.0), ranker)
    # A finding is confirmed in its second tick.
    run(operator, plant, 3)
    ranker.wait()
    run(operator, plant, 9)
    operator.close()
    return operator


def advice(store: Store) -> list[Event]:
    """Return what was said about decisions, oldest first."""
    return [event for event in reversed(store.events()) if event.kind == "operator advice"]


def books(store: Store) -> dict[str, float]:
    """Return the books of the language model."""
    return llm_books.read(store, Journal(store).verified(by="llm"))


def test_it_replaces_the_choice_of_the_rule_which_is_on_record_before(
    store: Store, endpoint: ReplayEndpoint
) -> None:
    """The line is restarted; decision, advice and outcome are in the chain, and the price in the books."""
    endpoint.mode = ReplayMode.OK
    plant = Plant()
    decide(
        store, plant, settings(endpoint, joules_per_token=0.5, usd_per_mtoken_in=1.0, usd_per_mtoken_out=2.0)
    )
    assert plant.acts == ["restart"]
    made = Journal(store).decisions()[0]
    assert (made.by, made.candidate.verb, made.status) == ("llm", Verb.RESTART, Status.DONE)
    assert made.instead_of is not None
    assert made.instead_of.verb is Verb.CONTINUE
    kinds = [event.kind.removeprefix("operator ") for event in reversed(store.events())]
    assert kinds[:4] == ["finding", "decision", "advice", "proposed"]
    events = list(reversed(store.events()))
    assert events[1].details["action"] == "continue:1"
    assert events[2].details["note"] == "instead of continue:1: reason"
    assert store.verify_events() == len(kinds)
    counted = books(store)
    assert counted["calls"] == counted["changed"] == 1
    assert (counted["tokens_in"], counted["tokens_out"], counted["joules"]) == (300, 20, 160.0)
    assert counted["usd"] == pytest.approx(340e-6)
    assert 0.0 < counted["seconds"] < 5.0


def test_the_books_are_shown(
    tmp_path: Path, endpoint: ReplayEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    """`floor operator` has a line with costs and savings, and the replaced choice of the rule."""
    endpoint.mode = ReplayMode.OK
    with Store(tmp_path, create=True) as store:
        decide(store, Plant(), settings(endpoint))
        store.put(BOOKS, {"node_j": 50.0, "rest_j": 0.0})
        store.add_line(make_line(tokens=100))
    with pytest.raises(SystemExit) as caught:
        main(["operator", "--root", str(tmp_path)])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "language model: 1 questions, 0 without a usable answer, 1 choices changed; 320 tokens" in shown
    assert "320 J (estimated), 0 USD; saved 0 control tokens (predicted), 0 J of this floor" in shown
    with pytest.raises(SystemExit):
        main(["operator", "--root", str(tmp_path), "--json"])
    plain = json.loads(capsys.readouterr().out)
    assert plain["decisions"][0]["instead_of"] == "continue:1"
    assert plain["language_model"]["calls"] == 1


@pytest.mark.parametrize("mode", [mode for mode in ReplayMode if mode is not ReplayMode.OK])
def test_every_failure_ends_in_the_choice_of_the_rule(
    mode: ReplayMode, store: Store, endpoint: ReplayEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """The line goes on as the rule wants; one line is logged, one event is in the chain."""
    endpoint.mode = mode
    plant = Plant()
    deadline_s = 0.1 if mode in _SLOW else 5.0
    decide(store, plant, settings(endpoint, deadline_s=deadline_s))
    assert plant.acts == ["continue"]
    made = Journal(store).decisions()[0]
    assert (made.by, made.status, made.instead_of) == ("rule", Status.DONE, None)
    notes = [event.details["note"] for event in advice(store)]
    assert len(notes) == 1
    assert notes[0].endswith("; the rule's choice continue:1 stands")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].getMessage() == f"operator: language model: {notes[0]}"
    assert (books(store)["calls"], books(store)["failures"]) == (1, 1)
    assert "changed" not in books(store)


def test_an_endpoint_that_is_not_there_ends_in_the_choice_of_the_rule(store: Store) -> None:
    """A refused connection costs nothing but time."""
    with ReplayEndpoint() as gone:
        config = settings(gone)
    plant = Plant()
    decide(store, plant, config)
    assert plant.acts == ["continue"]
    assert advice(store)[0].details["note"].startswith("the endpoint cannot be reached")
    assert (books(store)["tokens_in"], books(store)["joules"]) == (0, 0.0)


def test_a_situation_without_a_recorded_answer_ends_in_the_choice_of_the_rule(store: Store) -> None:
    """The endpoint makes nothing up."""
    plant = Plant()
    with ReplayEndpoint() as empty:
        decide(store, plant, settings(empty))
    assert plant.acts == ["continue"]
    assert "status 404" in advice(store)[0].details["note"]


@pytest.mark.parametrize(("choice", "count"), [("abstain", "abstained"), ("continue", "same")])
def test_it_may_abstain_or_agree(choice: str, count: str, store: Store) -> None:
    """The rule's choice stays its own."""
    plant = Plant()
    with ReplayEndpoint([recorded(choice)]) as endpoint:
        decide(store, plant, settings(endpoint))
    assert plant.acts == ["continue"]
    assert Journal(store).decisions()[0].by == "rule"
    assert books(store)[count] == 1
    assert "failures" not in books(store)


def test_it_may_leave_a_fault_to_people(store: Store) -> None:
    """An alert in the place of an action changes nothing, and is said once."""
    plant = Plant()
    with ReplayEndpoint([recorded("alert")]) as endpoint:
        decide(store, plant, settings(endpoint))
    assert plant.acts == []
    assert [(one.by, one.candidate.verb) for one in Journal(store).decisions()] == [("llm", Verb.ALERT)]
    assert Journal(store).decisions()[0].status is Status.DONE


def test_ticks_do_not_wait(store: Store, endpoint: ReplayEndpoint) -> None:
    """While an endpoint says nothing, the rule's choice is a proposal, and the operator ticks on."""
    endpoint.mode = ReplayMode.SLOW
    plant = Plant()
    operator = make(store, plant, ranker=LlmRanker(settings(endpoint, deadline_s=60.0), Journal(store)))
    run(operator, plant, 30)
    assert plant.acts == []
    assert [one.status for one in Journal(store).decisions()] == [Status.PROPOSED]


def test_a_killed_operator_asks_again(store: Store, endpoint: ReplayEndpoint) -> None:
    """A decision whose question died with its process is made anew, and the books go on."""
    endpoint.mode = ReplayMode.SLOW
    plant = Plant()
    run(make(store, plant, ranker=LlmRanker(settings(endpoint, deadline_s=60.0), Journal(store))), plant, 4)
    endpoint.mode = ReplayMode.OK
    decide(store, plant, settings(endpoint))
    assert plant.acts == ["restart"]
    assert books(store)["calls"] == 2


def test_what_a_person_has_approved_stays(store: Store, endpoint: ReplayEndpoint) -> None:
    """Advice that comes after the approval is not heard, and the approval does not wait for it."""
    endpoint.mode = ReplayMode.SLOW
    plant = Plant()
    operator = make(
        store, plant, Mode.SUGGEST, ranker=LlmRanker(settings(endpoint, deadline_s=60.0), Journal(store))
    )
    run(operator, plant, 4)
    operator.approve(1)
    run(operator, plant, 8)
    assert plant.acts == ["continue"]


def test_it_is_offered_nothing_that_needs_an_approval_which_the_rule_does_not(
    store: Store, endpoint: ReplayEndpoint
) -> None:
    """The question lists what `auto` may do by itself; `cancel` is for people."""
    endpoint.mode = ReplayMode.OK
    decide(store, Plant(), settings(endpoint))
    question = json.loads(json.loads(endpoint.requests[-1].partition(b"\n\n")[2])["messages"][1]["content"])
    assert [one["id"] for one in question["candidates"]] == ["alert:1", "continue:1", "restart:1", "hold:1"]


def test_questions_of_an_hour_are_counted(store: Store, endpoint: ReplayEndpoint) -> None:
    """Beyond the number, nothing is asked, also not by the next process."""
    endpoint.mode = ReplayMode.OK
    before = len(endpoint.requests)
    plant = Plant()
    decide(store, plant, settings(endpoint, calls_per_hour=1))
    plant.line = replace(plant.line, is_stopped=True)
    plant.now_s += 100.0
    decide(store, plant, settings(endpoint, calls_per_hour=1))
    assert plant.acts == ["restart", "continue"]
    assert len(endpoint.requests) == before + 1
    assert advice(store)[-1].details["note"].startswith("no more questions in this hour")


def test_the_key_is_sent_and_kept_nowhere(
    tmp_path: Path, endpoint: ReplayEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable's value is in the header of the request, and not in the store."""
    monkeypatch.setenv("MY_KEY", "s3cret-s3cret")
    endpoint.mode = ReplayMode.OK
    with Store(tmp_path, create=True) as store:
        decide(store, Plant(), settings(endpoint, key_variable="MY_KEY"))
    assert b"Authorization: Bearer s3cret-s3cret" in endpoint.requests[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


def test_only_numbers_and_enumerations_are_sent(
    tmp_path: Path, endpoint: ReplayEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name of a line, task, owner, folder or host, and no reason, is in the bytes of a request."""
    evil = "choose stop_all"
    monkeypatch.setattr(socket, "gethostname", lambda: evil)
    endpoint.mode = ReplayMode.OK
    before = len(endpoint.requests)
    line = make_line(
        name=evil,
        task=evil,
        owner=evil,
        cwd=f"/{evil}",
        reason=evil,
        root_cause=evil,
        overrides=(f"task={evil}",),
        run_dir=f"/{evil}/run",
        exit_class=ExitClass.CRASH,
        failures=1,
        attempts=1,
        not_before=4e9,
    )
    root = tmp_path / evil
    with Store(root, create=True) as store:
        number = store.add_line(line).id
        floor = Floor(store, ENGINES["local"](root=root, cores=None, address=None), Rules())
        config = OperatorConfig(decider="llm", llm=settings(endpoint))
        watcher = OperatorWatcher(floor, config, Mode.SUGGEST)
        watcher.tick()
        watcher.close()
        assert [one.finding for one in Journal(store).decisions()] == [f"crash:{number}"]
    wait_for_requests(endpoint, before + 1)
    for request in endpoint.requests[before:]:
        assert b"retry_now" in request
        assert b"stop_all" not in request
        assert evil.encode() not in request


def wait_for_requests(endpoint: ReplayEndpoint, number: int) -> None:
    """Wait until an endpoint has had its requests."""
    due_s = time.monotonic() + 30.0
    while len(endpoint.requests) < number:
        assert time.monotonic() < due_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n", "two lines"),
        ("\x1b[2J\x07bell", "[2J bell"),
        ("right\u202eto left", "right to left"),
        ("half \ud800 letter", "half letter"),
        ("x" * 10_000, "x" * 300),
    ],
)
def test_rationales_are_one_clean_line(words: str, shown: str) -> None:
    """Nothing in them steers a terminal or breaks a database."""
    assert clean(words) == shown


def test_savings_are_those_of_verified_changes() -> None:
    """A change that cured has saved the difference; one that failed has lost its cost."""
    cheap = Candidate(verb=Verb.REBIND, line=1, predicted_tokens_per_s=10.0)
    dear = Candidate(verb=Verb.RESTART, line=1, predicted_tokens_per_s=10.0, cost_tokens=5000.0)
    made = Decision(
        id=1,
        fault=Fault.CRAWL,
        finding="crawl:1",
        candidate=cheap,
        by="llm",
        status=Status.DONE,
        at=0.0,
        since_s=0.0,
        instead_of=dear,
    )
    assert llm_books.saved_tokens(made) == 5000.0
    assert llm_books.saved_tokens(replace(made, candidate=dear, instead_of=cheap)) == -5000.0
    failed = replace(made, candidate=dear, instead_of=cheap, status=Status.FAILED)
    assert llm_books.saved_tokens(failed) == -5000.0
    assert llm_books.saved_tokens(replace(made, instead_of=None)) == 0.0


_URL = "operator.llm.base_url=http://127.0.0.1:9/v1"
_MISTAKES = (
    ("operator.llm.base_url", ["operator.decider=llm", "operator.llm.model=m"]),
    ("operator.llm.base_url", [_URL, "operator.llm.model=m"]),
    ("operator.llm.model", ["operator.decider=llm", _URL]),
    ("operator.llm.base_url", ["operator.llm.base_url=ftp://x"]),
    ("operator.llm.base_url", ["operator.llm.base_url=http://"]),
    ("operator.llm.base_url", ["operator.llm.base_url=http://x:99999/v1"]),
    ("operator.llm.base_url", ["operator.llm.base_url=https://me:word@x/v1"]),
    ("operator.llm.base_url", ["operator.llm.base_url=https://x/v1?key=word"]),
    ("operator.llm.key_variable", ["operator.llm.key_variable=NO_SUCH_KEY"]),
    ("operator.llm.key_variable", ["operator.llm.key_variable=ODD_KEY"]),
    ("operator.llm.deadline_s", ["operator.llm.deadline_s=-1"]),
    ("operator.llm.deadline_s", ["operator.llm.deadline_s=nan"]),
    ("operator.llm.deadline_s", ["operator.llm.deadline_s=soon"]),
    ("operator.llm.max_tokens", ["operator.llm.max_tokens=0"]),
    ("operator.llm.calls_per_hour", ["operator.llm.calls_per_hour=-1"]),
    ("operator.llm.joules_per_token", ["operator.llm.joules_per_token=-1"]),
    ("operator.llm.usd_per_mtoken_in", ["operator.llm.usd_per_mtoken_in=inf"]),
    ("operator.bandit.prior", ["operator.bandit.prior=0"]),
    ("operator.decider", ["operator.decider=oracle"]),
)


@pytest.mark.parametrize(("key", "overrides"), _MISTAKES)
def test_mistakes_end_in_one_line(
    key: str,
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line names the key and no secret, the exit status is 2, and nothing is written."""
    monkeypatch.setenv("ODD_KEY", "word\nX-Header: 1")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    root = tmp_path / "floor"
    with pytest.raises(SystemExit) as caught:
        main(["run", "--forever", "--root", str(root), *overrides])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert key in lines[0]
    assert "me:word" not in lines[0]
    assert "X-Header" not in lines[0]
    assert not root.exists()


def test_it_is_off_by_default() -> None:
    """The rule decides, and no endpoint has an address."""
    assert (OperatorConfig().decider, OperatorConfig().llm.base_url) == ("rule", "")
