"""A floor of one line for tests of the operator, under a clock of its own."""

from __future__ import annotations

from dataclasses import replace

from factory.floor.lines import LineState
from factory.floor.store import Store
from factory.operator.config import OperatorConfig
from factory.operator.deciders.base import Ranker
from factory.operator.deciders.rule import RuleDecider
from factory.operator.journal import Journal
from factory.operator.operator import Operator
from factory.operator.view import HostView, LineView, MeterView, View
from factory.operator.words import Candidate, Decision, Mode, Verb


class Plant:
    """One line that is stopped by a stranger; by default it goes on when it is told to."""

    def __init__(self) -> None:
        """Begin with a line that runs."""
        self.now_s = 0.0
        self.line = LineView(
            id=1, state=LineState.RUNNING, attempts=1, cpus=(0,), cores_busy=1.0, is_stopped=True
        )
        self.host = HostView(num_cores=2.0, cpus_busy=(1.0, 0.0))
        self.meter = MeterView()
        self.acts: list[str] = []
        self.undone: list[str] = []
        self.is_deaf = False
        self.deaf_to: set[Verb] = set()
        self.is_incurable = False

    def observe(self) -> View:
        """Return the line and its machine."""
        return View(now_s=self.now_s, lines=(self.line,), host=self.host, meter=self.meter)

    def undo_state(self, candidate: Candidate) -> list[int]:
        """Return the CPUs."""
        return list(self.line.cpus) if candidate.verb is Verb.REBIND else []

    def act(self, decision: Decision) -> None:
        """Change the line."""
        verb = decision.candidate.verb
        self.acts.append(verb.value)
        if self.is_deaf or verb in self.deaf_to:
            return
        if verb is Verb.REBIND:
            self.line = replace(self.line, cpus=(1,))
        if verb in (Verb.CONTINUE, Verb.RESTART) and not self.is_incurable:
            self.line = replace(self.line, is_stopped=False, attempts=self.line.attempts + 1)

    def undo(self, decision: Decision) -> str:
        """Put the CPUs back."""
        self.undone.append(decision.candidate.verb.value)
        self.line = replace(self.line, cpus=tuple(decision.undo) or self.line.cpus)
        return "put back"


def make(
    store: Store,
    plant: Plant,
    mode: Mode = Mode.AUTO,
    config: OperatorConfig | None = None,
    ranker: Ranker | None = None,
) -> Operator:
    """Return an operator of the plant."""
    journal = Journal(store, monotonic=lambda: plant.now_s)
    return Operator(plant, journal, RuleDecider(), config or OperatorConfig(), mode, ranker=ranker)


def run(operator: Operator, plant: Plant, seconds: int) -> None:
    """Tick once a second."""
    for _ in range(seconds):
        operator.tick()
        plant.now_s += 1.0
