"""Books of the language model: tokens, time, energy and price of its answers, and what they have saved."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from factory.floor.store import Store
from factory.operator.llm_config import LlmConfig
from factory.operator.stored import MODEL_BOOKS
from factory.operator.words import Candidate, Decision, Status

if TYPE_CHECKING:
    from factory.operator.deciders.chat import Reply

_HOUR_S = 3600.0
HORIZON_S = 600.0
"""Time for which the predicted speed of two candidates is compared [s]."""


class LlmBooks:
    """Counts; every change is on the disk before anything follows from it."""

    def __init__(self, config: LlmConfig, store: Store) -> None:
        """Go on with the books of a floor."""
        self._config = config
        self._store = store
        self._books: dict[str, Any] = store.get(MODEL_BOOKS)

    def begin(self) -> bool:
        """Count a question before it is asked; return False if the hour has had its number of them."""
        now = time.time()
        asked = [at for at in self._books.get("asked_at", []) if now - _HOUR_S < at <= now]
        if len(asked) >= self._config.calls_per_hour:
            return False
        self._books["asked_at"] = [*asked, now]
        self._add(calls=1)
        return True

    def spend(self, reply: Reply) -> dict[str, float]:
        """Count what an answer has cost, and return it."""
        config = self._config
        usd = reply.tokens_in * config.usd_per_mtoken_in + reply.tokens_out * config.usd_per_mtoken_out
        cost = {
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            "seconds": round(reply.seconds, 6),
            "joules": (reply.tokens_in + reply.tokens_out) * config.joules_per_token,
            "usd": usd / 1e6,
        }
        self._add(**cost)
        return cost

    def note(self, kind: str) -> None:
        """Count an outcome: `failures`, `changed`, `same` or `abstained`."""
        self._add(**{kind: 1})

    def _add(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self._books[name] = self._books.get(name, 0) + amount
        self._store.put(MODEL_BOOKS, self._books)


def read(store: Store, changed: Iterable[Decision]) -> dict[str, float]:
    """Return the books; empty if no question was ever asked.

    Args:
        store: the floor's store.
        changed: verified decisions that the language model has changed.
    """
    found = {name: value for name, value in store.get(MODEL_BOOKS).items() if name != "asked_at"}
    if found:
        found["saved_tokens"] = sum(saved_tokens(decision) for decision in changed)
    return found


def saved_tokens(decision: Decision) -> float:
    """Return the work that a verified change of the rule's choice has saved, by the predictions of both.

    A choice that has failed has saved nothing: the rule's comes after it, and what it cost is lost.
    """
    if decision.instead_of is None:
        return 0.0
    if decision.status is Status.FAILED:
        return -decision.candidate.cost_tokens
    return _value(decision.candidate) - _value(decision.instead_of)


def _value(candidate: Candidate) -> float:
    return HORIZON_S * candidate.predicted_tokens_per_s - candidate.cost_tokens
