"""Commands about the operator, and the operator of a floor that runs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from factory.floor.answers import answer
from factory.floor.loop import Floor, NoWatcher, Watcher
from factory.floor.records import Command
from factory.floor.store import Store
from factory.operator.config import OperatorConfig
from factory.operator.deciders import table
from factory.operator.hands import FloorPort
from factory.operator.journal import Journal
from factory.operator.operator import Operator
from factory.operator.own_cost import OwnCost
from factory.operator.words import Mode

_SHOWN = 20


class OperatorWatcher:
    """The operator beside a floor."""

    def __init__(self, floor: Floor, config: OperatorConfig, mode: Mode) -> None:
        """Let an operator watch a floor."""
        journal = Journal(floor.store)
        self._store = floor.store
        self._error = ""
        self._own_cost = OwnCost(floor.store)
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
        started_s = time.thread_time()
        try:
            self._operator.tick()
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
            text = f"{type(error).__name__}: {error}"
            if text != self._error:
                # The same mistake in every tick is said once.
                self._error = text
                self._store.record("operator error", details={"error": text})
        self._own_cost.add(time.thread_time() - started_s, time.monotonic())

    def order(self, command: Command) -> str:
        """Carry out `approve` or `operator reset`."""
        if command.verb == "approve":
            return self._operator.approve(int(command.arguments["id"]))
        return self._operator.reset()

    def close(self) -> None:
        """Record the operator's own CPU time."""
        self._own_cost.write(time.monotonic())
        self._store.put("operator cost", self._operator.describe())


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
        findings = store.get("operator findings", [])
        decisions = [_plain(journal, one) for one in journal.decisions(limit=_SHOWN)]
        cost = store.get("operator cost", {})
    if given.json:
        print(json.dumps({"findings": findings, "decisions": decisions, "cost": cost}, indent=1))
        return 0
    print_findings(findings)
    for one in decisions:
        print(f"{one['id']:>4}  {one['status']:<10} {one['action']:<24} for {one['finding']}  {one['note']}")
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
        print(answer(store, store.add_command("approve", id=given.decision)))
    return 0


def _plain(journal: Journal, decision: Any) -> dict[str, Any]:
    return {
        "id": decision.id,
        "at": decision.at,
        "finding": decision.finding,
        "action": decision.candidate.id,
        "by": decision.by,
        "status": decision.status.value,
        "note": journal.notes(decision.id),
        "predicted_w": decision.candidate.predicted_w,
        "predicted_tokens_per_s": decision.candidate.predicted_tokens_per_s,
        "cost_tokens": decision.candidate.cost_tokens,
    }
