"""Where a capture by torch is cut, for work that cannot be part of one and is launched by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Launch = Callable[[], None]
Cut = Callable[[Callable[[], Launch]], None]
"""Ends a graph, calls what it is given, keeps the launch which that returns, and begins the next graph."""

_cuts: list[Cut] = []


@contextlib.contextmanager
def cut_by(cut: Cut) -> Iterator[None]:
    """Let `cut` handle work that is launched by itself, while torch captures in the block."""
    _cuts.append(cut)
    try:
        yield
    finally:
        _cuts.remove(cut)


def can_be_cut() -> bool:
    """Say whether whoever captures now lets work be launched between two graphs."""
    return bool(_cuts)


def apart(prepare: Callable[[], Launch]) -> None:
    """Have the launch that `prepare` returns done between what was captured so far and what follows."""
    _cuts[-1](prepare)
