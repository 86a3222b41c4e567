"""Interfaces of deciders, which make the first choice, and of rankers, which may replace it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Finding


class Decider(Protocol):
    """Chooses actions; it knows neither the guard nor how an action is done."""

    name: str

    def choose(self, finding: Finding, candidates: Sequence[Candidate], view: View) -> Candidate | None:
        """Return one of the candidates, None to abstain."""


class NoDecider:
    """Abstains always."""

    name = "none"

    def choose(self, finding: Finding, candidates: Sequence[Candidate], view: View) -> Candidate | None:
        """Return None."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Opinion of a ranker about a decision."""

    candidate: Candidate | None = None
    """Choice to take instead; None if the first one stands."""
    note: str = ""
    """Reason, for the journal; empty if there is nothing to tell."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Numbers behind it, for the journal."""


class Ranker(Protocol):
    """May replace a decision that is already in the journal by another candidate."""

    name: str

    def ask(self, decision: Decision, finding: Finding, choices: Sequence[Candidate], view: View) -> None:
        """Begin to think about a decision, without waiting.

        Args:
            decision: the first choice.
            finding: the fault.
            choices: candidates that the guard lets take its place, itself among them.
            view: the floor now.
        """

    def answer(self, decision: Decision) -> Advice | None:
        """Return the advice about a decision; None while thinking goes on."""

    def close(self) -> None:
        """Count what is left to count."""


class NoRanker:
    """Leaves every choice as it is."""

    name = "none"

    def ask(self, decision: Decision, finding: Finding, choices: Sequence[Candidate], view: View) -> None:
        """Do nothing."""

    def answer(self, decision: Decision) -> Advice:
        """Return that there is nothing to wait for."""
        return Advice()

    def close(self) -> None:
        """Do nothing."""
