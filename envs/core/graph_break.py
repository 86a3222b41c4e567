"""Where a capture by torch is cut, for work that cannot be part of one and is launched by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Launch = Callable[[], None]
BreakHandler = Callable[[Callable[[], Launch]], None]
"""Ends a graph, calls what it is given, keeps the launch which that returns, and begins the next graph."""

_handlers: list[BreakHandler] = []


@contextlib.contextmanager
def handle_graph_breaks(handler: BreakHandler) -> Iterator[None]:
    """Let `handler` handle work that is launched by itself, while torch captures in the block."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


def can_break() -> bool:
    """Say whether whoever captures now lets work be launched between two graphs."""
    return bool(_handlers)


def graph_break(prepare: Callable[[], Launch]) -> None:
    """Have the launch that `prepare` returns done between what was captured so far and what follows."""
    _handlers[-1](prepare)
