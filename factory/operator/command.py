"""Commands about the operator, and the operator of a floor that runs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from factory.floor.answers import answer
from factory.floor.floor_books import BOOKS
from factory.floor.loop import Floor, NoWatcher, Watcher
from factory.floor.records import Command
from factory.floor.store import Store
from factory.floor.store_errors import StoreError
from factory.operator.config import OperatorConfig
from factory.operator.deciders import llm_books, table
from factory.operator.hands import FloorPort
from factory.operator.journal import Journal
from factory.operator.operator import Operator
from factory.operator.own_cost import total
from factory.operator.stored import FINDINGS
from factory.operator.words import Mode, Status
from factory.runtime import strict_json
from factory.runtime.stored_files import visible
from factory.validation import require

_SHOWN = 20


class OperatorWatcher:
    """The operator beside a floor."""

    def __init__(self, floor: Floor, config: OperatorConfig, mode: Mode) -> None:
        """Let an operator watch a floor."""
        journal = Journal(floor.store)
        self._store = floor.store
        self._error = ""
        self._operator = Operator(
            FloorPort(floor),
            journal,
            table.make(config, journal),
            config,
            mode,
            ranker=table.make_ranker(config, journal),
        )
        journal.record("started", mode=mode.value, decider=config.decider)

    def tick(self) -> None:
        """Run the operator's loop once; a mistake in it must not stop the floor."""
        try:
            self._operator.tick()
        except StoreError:
            raise
        except Exception as error:  # odd files of a run must not end the floor, whatever they lead to
            text = f"{type(error).__name__}: {error}"
            if text != self._error:
                # The same mistake in every tick is said once.
                self._error = text
                self._store.record("operator error", details={"error": text})

    def order(self, command: Command) -> str:
        """Carry out `approve` or `operator reset`."""
        if command.verb == "approve":
            return self._operator.approve(int(command.arguments["id"]))
        return self._operator.reset()

    def close(self) -> None:
        """Write down what the operator itself has used."""
        self._operator.close()


def watching(config: OperatorConfig, mode: Mode) -> Callable[[Floor], Watcher]:
    """Return what makes the operator of a floor."""
    if mode is Mode.OFF:
        return lambda floor: NoWatcher()
    return lambda floor: OperatorWatcher(floor, config, mode)


def show(given: argparse.Namespace) -> int:
    """Print findings and decisions, or close the circuit breaker."""
    with Store(given.root) as store:
        if given.what == "reset":
            print(answer(store, store.add_command("operator reset")))
            return 0
        journal = Journal(store)
        findings = store.get(FINDINGS)
        decisions = [_plain(journal, one) for one in journal.decisions(limit=_SHOWN)]
        cost = total(store)
        model = _model_books(store, journal)
    if given.json:
        shown = {"findings": findings, "decisions": decisions, "cost": cost, "language_model": model}
        print(strict_json.dumps(shown))
        return 0
    print_findings(findings)
    if model:
        print(_model_text(model))
    for one in decisions:
        text = f"{one['id']:>4}  {one['status']:<10} {one['action']:<24} for {one['finding']}  {one['note']}"
        print(visible(text))
    return 0


def print_findings(findings: Sequence[dict[str, Any]]) -> None:
    """Print open findings with their evidence."""
    if not findings:
        print("no open findings")
    for finding in findings:
        numbers = ", ".join(
            f"{one['name']} {one['value']:.4g} {one['unit']} (limit {one['limit']:.4g})"
            for one in finding["evidence"]
        )
        age_s = time.time() - finding["since"]
        print(f"{finding['severity']:<8} {finding['id']:<22} for {age_s:.0f} s: {numbers}")


def approve(given: argparse.Namespace) -> int:
    """Let a proposal be carried out."""
    with Store(given.root) as store:
        proposed = {one.id for one in Journal(store).decisions() if one.status is Status.PROPOSED}
        remedy = "not among the proposals; `operator` lists them"
        require(given.decision in proposed, "decision", given.decision, remedy)
        print(answer(store, store.add_command("approve", id=given.decision)))
    return 0


def _model_books(store: Store, journal: Journal) -> dict[str, float]:
    """Return the books of the language model; the work that it has saved in joules of this floor as well."""
    books = llm_books.read(store, journal.verified(by="llm"))
    tokens = sum(line.tokens for line in store.lines())
    if books and tokens > 0:
        books["saved_joules"] = books["saved_tokens"] * store.get(BOOKS).get("node_j", 0.0) / tokens
    return books


def _model_text(books: dict[str, float]) -> str:
    """Return the books as a sentence."""
    tokens = books.get("tokens_in", 0) + books.get("tokens_out", 0)
    text = (
        f"language model: {books.get('calls', 0):.0f} questions,"
        f" {books.get('failures', 0):.0f} without a usable"
        f" answer, {books.get('changed', 0):.0f} choices changed;"
        f" {tokens:.0f} tokens, {books.get('seconds', 0):.1f} s,"
        f" {books.get('joules', 0):.0f} J (estimated), {books.get('usd', 0):.6g} USD;"
        f" saved {books['saved_tokens']:.0f} control tokens (predicted)"
    )
    if "saved_joules" in books:
        text += f", {books['saved_joules']:.0f} J of this floor"
    return text


def _plain(journal: Journal, decision: Any) -> dict[str, Any]:
    instead_of = None
    if decision.instead_of is not None:
        instead_of = decision.instead_of.id
    return {
        "id": decision.id,
        "at": decision.at,
        "finding": decision.finding,
        "action": decision.candidate.id,
        "by": decision.by,
        "instead_of": instead_of,
        "status": decision.status.value,
        "note": journal.notes(decision.id),
        "predicted_w": decision.candidate.predicted_w,
        "predicted_tokens_per_s": decision.candidate.predicted_tokens_per_s,
        "cost_tokens": decision.candidate.cost_tokens,
    }
