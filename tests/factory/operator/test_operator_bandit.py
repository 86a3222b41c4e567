"""The bandit: it begins as the rule, learns from verified outcomes, and goes on exactly where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from operator_plant import Plant, make, run

from factory.floor.store import Store
from factory.operator.config import DECIDERS, BanditConfig, OperatorConfig
from factory.operator.deciders import table
from factory.operator.deciders.bandit import BanditRanker
from factory.operator.journal import Journal
from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Fault, Finding, Severity, Status, Verb

VIEW = View(now_s=0.0)
HANG = Finding(fault=Fault.HANG, line=1, severity=Severity.CRITICAL, evidence=())
CHOICES = [
    Candidate(verb=verb, line=1) for verb in (Verb.ALERT, Verb.CONTINUE, Verb.RESTART, Verb.HOLD, Verb.CANCEL)
]
RULE = CHOICES[1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    with Store(tmp_path, create=True) as store:
        yield store


def note(store: Store, verb: Verb, status: Status, number: int = 1) -> None:
    """Put outcomes of an action into the journal."""
    journal = Journal(store)
    with store.transaction():
        for _ in range(number):
            made = journal.propose(HANG, Candidate(verb=verb, line=1), by="rule")
            journal.change(made, status, "")


def choices_of(
    store: Store, *, seed: int = 0, number: int = 100, choices: list[Candidate] = CHOICES
) -> list[Verb]:
    """Return the actions that a bandit takes for decisions with numbers of their own."""
    ranker = BanditRanker(BanditConfig(seed=seed), Journal(store))
    found: list[Verb] = []
    for index in range(number):
        made = Decision(
            id=1000 + index,
            fault=HANG.fault,
            finding=HANG.id,
            candidate=RULE,
            by="rule",
            status=Status.PROPOSED,
            at=0.0,
            since_s=0.0,
        )
        ranker.ask(made, HANG, choices, VIEW)
        found.append((ranker.answer(made).candidate or RULE).verb)
    return found


def test_every_decider_has_a_row() -> None:
    """The names that settings take are those of the table."""
    assert set(table.DECIDERS) == set(DECIDERS)


def test_without_outcomes_it_is_the_rule(store: Store) -> None:
    """Nothing is tried on a floor of which nothing is known; alerts and other faults teach nothing."""
    note(store, Verb.ALERT, Status.DONE)
    assert set(choices_of(store)) == {Verb.CONTINUE}


def test_it_follows_what_cures(store: Store) -> None:
    """An action that always failed gives way to one that always cured, and to no untried one."""
    note(store, Verb.CONTINUE, Status.FAILED, 20)
    note(store, Verb.RESTART, Status.DONE, 20)
    assert Counter(choices_of(store))[Verb.RESTART] >= 95


def test_it_stays_with_a_rule_that_works(store: Store) -> None:
    """Others are tried now and then, less and less."""
    note(store, Verb.CONTINUE, Status.DONE)
    early = Counter(choices_of(store))
    note(store, Verb.CONTINUE, Status.DONE, 50)
    late = Counter(choices_of(store))
    assert 70 <= early[Verb.CONTINUE] < late[Verb.CONTINUE]


def test_a_cure_that_stops_the_line_is_worth_less(store: Store) -> None:
    """A pause that always cures does not replace a restart that cures two times in three."""
    note(store, Verb.HOLD, Status.DONE, 30)
    note(store, Verb.RESTART, Status.DONE, 20)
    note(store, Verb.RESTART, Status.FAILED, 10)
    note(store, Verb.CONTINUE, Status.FAILED, 40)
    assert Counter(choices_of(store))[Verb.RESTART] >= 95


def test_choices_repeat_with_journal_and_seed(store: Store, tmp_path: Path) -> None:
    """A bandit that begins anew on the same journal chooses the same; another seed chooses otherwise."""
    note(store, Verb.CONTINUE, Status.FAILED)
    first = choices_of(store)
    with Store(tmp_path) as again:
        assert choices_of(again) == first
    assert choices_of(store, seed=1) != first
    # What was learned in between changes later choices.
    note(store, Verb.RESTART, Status.FAILED, 20)
    assert choices_of(store) != first


def test_it_takes_nothing_that_it_is_not_offered(store: Store) -> None:
    """However well an action has done, a list without it rules it out."""
    note(store, Verb.CANCEL, Status.DONE, 50)
    note(store, Verb.CONTINUE, Status.FAILED, 50)
    assert set(choices_of(store, choices=CHOICES[:4])) <= {Verb.CONTINUE, Verb.RESTART, Verb.HOLD}


@pytest.mark.slow
@pytest.mark.parametrize("allow", [["continue"], ["continue", "restart"]])
def test_a_floor_that_ignores_the_rule_teaches_it(store: Store, allow: list[str]) -> None:
    """Stopped lines are restarted after `continue` has failed; if that is not allowed, it is not tried."""
    plant = Plant()
    plant.deaf_to.add(Verb.CONTINUE)
    config = OperatorConfig(
        decider="bandit",
        allow=allow,
        dwell_s=0.0,
        verify_s=3.0,
        unsafe_s=0.0,
        breaker=1000,
        actions_per_hour=3600,
    )
    ranker = table.make_ranker(config, Journal(store))
    operator = make(store, plant, config=config, ranker=ranker)
    for _ in range(24):
        plant.line = replace(plant.line, is_stopped=True)
        run(operator, plant, 14)
    assert set(plant.acts) <= set(allow)
    assert ("restart" in plant.acts) is ("restart" in allow)
    if "restart" in allow:
        assert plant.acts[0] == "continue"
        assert Counter(plant.acts[-10:])["restart"] >= 8
        changed = [one for one in Journal(store).decisions() if one.by == "bandit"]
        assert {one.instead_of.verb for one in changed if one.instead_of} == {Verb.CONTINUE}
    store.verify_events()
