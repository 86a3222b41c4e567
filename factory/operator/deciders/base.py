"""Interface of deciders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Finding


class Decider(Protocol):
    """Chooses actions; it knows neither the guard nor how an action is done."""

    name: str

    def choose(self, finding: Finding, candidates: Sequence[Candidate], view: View) -> Candidate | None:
        """Return one of the candidates, None to abstain."""

    def learn(self, decision: Decision, *, is_cured: bool) -> None:
        """Take note of the outcome of a decision."""


class NoDecider:
    """Abstains always."""

    name = "none"

    def choose(self, finding: Finding, candidates: Sequence[Candidate], view: View) -> Candidate | None:
        """Return None."""
        return None

    def learn(self, decision: Decision, *, is_cured: bool) -> None:
        """Learn nothing."""
