"""Show what a command is doing while it has nothing to print yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import rich.console

from factory.reporting.console import PATIENCE_S, PlainLines, StageProgress, ignore_progress
from factory.reporting.stream import SteadyStream


@contextmanager
def waiting(text: str, *, lines: bool = True, quiet: bool = False) -> Iterator[StageProgress]:
    """Show on stderr that something takes a while: a spinner on a terminal, else a line after a second.

    Args:
        text: what is being done.
        lines: print lines where stderr is no terminal; False where a mistake may follow, which is one line.
        quiet: show nothing at all.
    """
    if quiet:
        yield ignore_progress
    # Not rich's is_terminal: FORCE_COLOR makes that true in the logs of a CI.
    elif sys.stderr.isatty():
        with rich.console.Console(stderr=True).status(f"{text} ...") as status:
            yield lambda share: status.update(f"{text} {100 * min(share, 1.0):.0f} %")
    elif lines:
        # A log that takes no more must not end the command.
        console = PlainLines(file=cast(TextIO, SteadyStream(sys.stderr)))
        with console.stage(text, after_s=PATIENCE_S) as report:
            yield report
    else:
        yield ignore_progress
