"""Deciders of a trial, by name; beside a language model runs an endpoint that replays answers, or fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from factory.operator.replay import ANSWERS, ReplayEndpoint, ReplayMode, read_answers

MODEL = "llm"
_DEADLINE_S = 0.5
"""Time for an answer; those that never come are waited for in vain."""


@contextmanager
def settings(name: str) -> Iterator[list[str]]:
    """Yield `operator.<key>=<value>` of a decider.

    Args:
        name: a decider of the operator; `llm_<mode>` asks an endpoint that fails in this way.
    """
    if not name.startswith(MODEL):
        yield [f"operator.decider={name}"]
        return
    mode = ReplayMode(name.removeprefix(MODEL).removeprefix("_") or ReplayMode.OK)
    with ReplayEndpoint(read_answers(ANSWERS), mode=mode) as endpoint:
        yield [
            "operator.decider=llm",
            f"operator.llm.base_url={endpoint.base_url}",
            "operator.llm.model=replayed",
            f"operator.llm.deadline_s={_DEADLINE_S}",
        ]
