"""Trials under an injected clock: what the operator does on a model floor that shows recorded ticks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from factory import sections
from factory.floor.store import Store
from factory.operator.config import OperatorConfig
from factory.operator.deciders import table
from factory.operator.deciders.llm import LlmRanker
from factory.operator.journal import Journal
from factory.operator.operator import Operator
from factory.operator.scoring import choosers, trace
from factory.operator.scoring.cases import QUIET, Case
from factory.operator.scoring.config import ORACLE, PAGE
from factory.operator.scoring.library import Library
from factory.operator.scoring.measure import REPLAYED, Outcome, measure, usual
from factory.operator.scoring.plant import TARGET, Plant
from factory.operator.words import Candidate, Decision, Fault, Mode, Status

_LINES = 3
_QUIET_LINES = 10
_BEFORE_S = 60.0
"""Time before the injection, in which the detectors learn what is usual."""
_AFTER_S = 240.0
_QUIET_S = 3600.0
_DAY_S = 86400.0


def trial(case: Case, *, decider: str, seed: int, library: Library, journal: Path | None = None) -> Outcome:
    """Inject a recorded fault into a model floor, and return what became of it.

    Args:
        case: class of the fault.
        decider: decider of the operator.
        seed: seed of the choice among recordings.
        library: recordings.
        journal: folder of a journal that later trials go on with, for deciders that learn; a new one if None.
    """
    num_lines = case.num_lines
    if num_lines == 1:
        num_lines = _LINES
    plant = Plant(library, case, seed=seed, num_lines=num_lines)
    with _watched(plant, decider, journal) as watched:
        watched.run(_BEFORE_S)
        injected_s = plant.now_s
        # Tokens are compared from the injection on.
        undisturbed = plant.undisturbed_tokens
        plant.inject()
        if decider == ORACLE:
            watched.run(1.0)
            _act_at_once(plant, case)
        watched.run(injected_s + _AFTER_S - plant.now_s)
    return measure(
        case,
        watched.ticks,
        decider=decider,
        seed=seed,
        kind=REPLAYED,
        target=TARGET,
        injected_s=injected_s,
        usual_tokens=plant.undisturbed_tokens - undisturbed,
        joules_per_token=usual(watched.ticks, injected_s).joules_per_token,
    )


def quiet_hour(*, decider: str, seed: int, library: Library) -> Outcome:
    """Run ten lines for an hour without any fault."""
    plant = Plant(library, QUIET, seed=seed, num_lines=_QUIET_LINES)
    with _watched(plant, decider) as watched:
        watched.run(_QUIET_S)
    return measure(
        QUIET,
        watched.ticks,
        decider=decider,
        seed=seed,
        kind=REPLAYED,
        target=TARGET,
        injected_s=0.0,
        usual_tokens=plant.undisturbed_tokens,
        joules_per_token=0.0,
    )


def line_days(outcome: Outcome) -> float:
    """Return the time of a quiet hour, summed over its lines [days]."""
    return _QUIET_LINES * _QUIET_S / 86400.0


@contextmanager
def _watched(plant: Plant, decider: str, journal: Path | None = None) -> Iterator[_Watched]:
    """Yield a model floor with an operator in mode `auto`."""
    name = decider
    if decider == ORACLE:
        name = "none"
    with ExitStack() as stack:
        if journal is None:
            # In memory where there is such a folder: nothing of it is kept.
            shared = next((one for one in (Path("/dev/shm"),) if one.is_dir()), None)
            journal = Path(stack.enter_context(TemporaryDirectory(dir=shared)))
        store = stack.enter_context(Store(journal, create=True))
        overrides = stack.enter_context(choosers.settings(name))
        config = sections.parse(OperatorConfig, "operator", overrides, page=PAGE)
        yield _Watched(plant, config, store)


class _Watched:
    """A model floor, its operator, and the trace of both."""

    def __init__(self, plant: Plant, config: OperatorConfig, store: Store) -> None:
        self._plant = plant
        journal = Journal(store, monotonic=lambda: plant.now_s)
        # A day lies between two trials that share a journal.
        store.execute("UPDATE decision SET changed_at = changed_at - ?", _DAY_S)
        self._ranker = table.make_ranker(config, journal)
        self._operator = Operator(
            plant, journal, table.make(config, journal), config, Mode.AUTO, ranker=self._ranker
        )
        self.ticks: list[trace.Tick] = []

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until_s = self._plant.now_s + seconds
        while self._plant.now_s < until_s:
            view = self._operator.tick()
            if isinstance(self._ranker, LlmRanker):
                # It thinks in real time, for which the injected clock stands still.
                self._ranker.wait()
            lines = self._plant.lines.values()
            tokens = {line.id: line.tokens for line in lines}
            joules = {line.id: line.joules for line in lines}
            self.ticks.append(trace.tick(view, self._operator, tokens=tokens, joules=joules))


def _act_at_once(plant: Plant, case: Case) -> None:
    """Do what ends the fault soonest, as somebody who knew all would."""
    if not case.cures:
        return
    line = TARGET
    if case.is_of_floor:
        # Whoever came last makes room.
        line = max(plant.lines)
    candidate = Candidate(verb=case.cures[0], line=line)
    plant.act(
        Decision(
            id=0,
            fault=Fault.CRASH,
            finding="",
            candidate=candidate,
            by=ORACLE,
            status=Status.ACTING,
            at=0.0,
            since_s=plant.now_s,
        )
    )
