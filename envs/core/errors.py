"""Errors of environments. Importing this loads no torch."""

from __future__ import annotations


class WorldError(RuntimeError):
    """An environment failed while it ran. The message is one line; `trace` is the traceback."""

    def __init__(self, message: str, *, trace: str) -> None:
        super().__init__(message)
        self.trace = trace
