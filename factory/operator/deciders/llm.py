"""A language model beside the rule: it may replace the rule's choice by another candidate until its deadline.

It thinks in a thread of its own, so no tick waits for it. Whatever goes wrong, the rule's choice stands.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from factory.operator.deciders import chat, prompt
from factory.operator.deciders.base import Advice
from factory.operator.deciders.chat import Failure, Reply
from factory.operator.deciders.llm_books import LlmBooks
from factory.operator.journal import Journal
from factory.operator.llm_config import LlmConfig
from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Finding

_LOG = logging.getLogger(__name__)
LEAST_CHOICES = 3
"""Candidates from which on a question is worth its price."""

_FORGET_S = 600.0
"""Time after the deadline for which an answer is kept that nobody asks for."""


@dataclass(slots=True, kw_only=True)
class _Question:
    """A question that was asked."""

    due_s: float
    choices: Sequence[Candidate]
    thread: threading.Thread | None = None
    reply: Reply | None = None


class LlmRanker:
    """Asks an endpoint about decisions of the rule."""

    name = "llm"

    def __init__(self, config: LlmConfig, journal: Journal) -> None:
        """Use an endpoint, and go on with the books of a floor."""
        self._config = config
        self._books = LlmBooks(config, journal.store)
        self._questions: dict[int, _Question] = {}
        self._replies: queue.SimpleQueue[tuple[int, Reply]] = queue.SimpleQueue()

    def ask(self, decision: Decision, finding: Finding, choices: Sequence[Candidate], view: View) -> None:
        """Ask in a thread, if there is enough to choose from."""
        if len(choices) < LEAST_CHOICES:
            return
        question = _Question(due_s=time.monotonic() + self._config.deadline_s, choices=choices)
        self._questions[decision.id] = question
        if not self._books.begin():
            question.reply = Reply(failure=Failure.LIMIT)
            return
        body = prompt.request(self._config, finding, choices, view, rule=decision.candidate)
        # A thread that is not waited for, so that a floor which ends need not wait either.
        question.thread = threading.Thread(
            target=self._think,
            args=(decision.id, body, prompt.ids(choices)),
            name="operator llm",
            daemon=True,
        )
        question.thread.start()

    def answer(self, decision: Decision) -> Advice | None:
        """Return the advice about a decision; None until it is there or the deadline has passed."""
        self._collect()
        question = self._questions.get(decision.id)
        if question is None:
            return Advice()
        reply = question.reply
        if reply is None:
            if time.monotonic() < question.due_s:
                return None
            reply = Reply(failure=Failure.TIMEOUT, seconds=self._config.deadline_s)
        del self._questions[decision.id]
        return self._advice(decision, question, reply)

    def wait(self) -> None:
        """Wait until every question has its answer or its deadline."""
        for question in self._questions.values():
            if question.thread is not None:
                question.thread.join(max(0.0, question.due_s - time.monotonic()))

    def close(self) -> None:
        """Count the answers that have come since the last tick."""
        self._collect()

    def _think(self, number: int, body: bytes, ids: Sequence[str]) -> None:
        self._replies.put((number, chat.ask(self._config, body, ids)))

    def _collect(self) -> None:
        """Count what answers have cost, late ones as well, and leave them at their questions."""
        while not self._replies.empty():
            number, reply = self._replies.get_nowait()
            self._books.spend(reply)
            if number in self._questions:
                self._questions[number].reply = reply
        # Decisions that a person has taken, or whose fault has gone, hear no advice.
        forgotten_s = time.monotonic() - _FORGET_S
        self._questions = {key: one for key, one in self._questions.items() if one.due_s > forgotten_s}

    def _advice(self, decision: Decision, question: _Question, reply: Reply) -> Advice:
        numbers = {
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            "seconds": round(reply.seconds, 3),
        }
        if reply.failure is not None:
            self._books.note("failures")
            note = _failure_text(reply, decision)
            _LOG.warning("operator: language model: %s", note)
            return Advice(note=note, numbers=numbers | {"status": reply.status})
        if reply.choice == prompt.ABSTAIN:
            self._books.note("abstained")
            return Advice(note=f"abstains: {reply.rationale}", numbers=numbers)
        if reply.choice == decision.candidate.id:
            self._books.note("same")
            return Advice(note=f"the same choice: {reply.rationale}", numbers=numbers)
        self._books.note("changed")
        chosen = next(one for one in question.choices if one.id == reply.choice)
        note = f"instead of {decision.candidate.id}: {reply.rationale}"
        return Advice(candidate=chosen, note=note, numbers=numbers)


def _failure_text(reply: Reply, decision: Decision) -> str:
    status = ""
    if reply.failure is Failure.STATUS:
        status = f" with status {reply.status}"
    return f"{reply.failure}{status}; the rule's choice {decision.candidate.id} stands"
