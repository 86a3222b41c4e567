"""Records of trials, the actions that a sweep asks for, and the interface of sweeps.

A sweep keeps no state of its own: `propose` recomputes every decision from the records, and a value that is
recorded never changes. The order in which trials reach their rungs changes no decision either. So a sweep
that was interrupted anywhere goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from factory.runtime.decoding import Count

Value = tuple[float, ...] | None
"""Metrics of a trial at a rung, one for each objective; None if it failed on its way, or lacks one."""


class TrialState(StrEnum):
    """Position of a trial on its way through the sweep."""

    RUNNING = "running"
    """On its way to a rung, or waiting to be started."""
    PAUSED = "paused"
    """At a rung, until it is promoted or stopped."""
    DONE = "done"
    """At the last rung."""
    STOPPED = "stopped"
    """Given up by the sweep or by a user."""
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """True if nothing follows."""
        return self not in (TrialState.RUNNING, TrialState.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration of a sweep, and how far it came."""

    id: Count
    """Number within the sweep, in the order of the decisions that started trials."""
    overrides: tuple[str, ...]
    """Values drawn from the search space, as arguments of `factory.train`."""
    state: TrialState = TrialState.RUNNING
    values: tuple[Value, ...] = ()
    """Metrics at the rungs it has reached, from `first_rung` on."""
    steps: Count = 0
    """Environment steps of its own training."""
    first_rung: Count = 0
    """First rung it reaches: 0, or a later one if it goes on from the checkpoint of its parent."""
    parent: int | None = None
    """Trial whose checkpoint it started from."""

    @property
    def next_rung(self) -> int:
        """Index of the first rung it has not reached."""
        return self.first_rung + len(self.values)

    def has_reached(self, rung: int) -> bool:
        """Return whether the outcome at a rung is known, a failure included."""
        return self.next_rung > rung

    def value_at(self, rung: int) -> Value:
        """Return the metrics at a rung it has reached."""
        return self.values[rung - self.first_rung]

    def after_rung(self, value: Value, *, steps: int, num_rungs: int) -> Trial:
        """Return the trial with the metrics at its next rung.

        Args:
            value: the metrics.
            steps: environment steps of its own training.
            num_rungs: number of rungs of the sweep.
        """
        state = TrialState.PAUSED
        if self.next_rung + 1 == num_rungs:
            state = TrialState.DONE
        # Records are replaced and never changed, so a decision that was made from one stays right.
        return replace(self, values=(*self.values, value), steps=steps, state=state)

    def after_failure(self, state: TrialState = TrialState.FAILED) -> Trial:
        """Return the trial after an end before its next rung."""
        return replace(self, values=(*self.values, None), state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start a new trial."""

    trial: int
    overrides: tuple[str, ...]
    stop_at_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Promote a trial to a later rung, in its own run folder."""

    trial: int
    stop_at_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Give up a trial that waits at a rung."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploit:
    """Start a new trial from the checkpoint that another one has at its last rung."""

    source: int
    trial: int
    overrides: tuple[str, ...]
    first_rung: int
    stop_at_steps: int
    """Environment steps of the new trial's own training."""


TrialAction = Start | Promote | Stop | Exploit


class Sweep(Protocol):
    """Decides about trials."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Environment steps after which a trial is judged, ascending; the last one ends it."""

    def propose(self, trials: Sequence[Trial]) -> list[TrialAction]:
        """Return what follows from the records and is not in them yet, in the order in which to do it.

        Args:
            trials: all records of the sweep, in any order.
        """
