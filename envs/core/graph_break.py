"""Graph breaks: interrupt a CUDA graph capture for work that must be launched by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Launch = Callable[[], None]
BreakHandler = Callable[[Callable[[], Launch]], None]
"""Ends the current graph, calls its argument, keeps the launch this returns, and begins the next graph."""

_handlers: list[BreakHandler] = []


@contextlib.contextmanager
def handle_graph_breaks(handler: BreakHandler) -> Iterator[None]:
    """Let `handler` handle graph breaks while torch captures in the block."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


def can_break() -> bool:
    """Return whether the current capture allows graph breaks."""
    return bool(_handlers)


def graph_break(prepare: Callable[[], Launch]) -> None:
    """Break the graph: the launch that `prepare` returns runs between the work before and the work after."""
    # The innermost capture is the one that records now.
    _handlers[-1](prepare)
