"""Answers from the store of a floor, over a connection that cannot change it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from factory.energy.config import SiteConfig
from factory.floor import schema, store_files
from factory.floor.compliance import GAP_S
from factory.floor.plan import Settings
from factory.floor.questions.matching import Choice
from factory.floor.store import FILE
from factory.floor.store_errors import store_faults
from factory.runtime import decoding
from factory.validation import require

_BUSY_TIMEOUT_S = 20.0
_CELL = int | float | str | None
"""Types that SQLite gives an answer; bytes are in no column of ours."""
_INSTRUCTIONS = 100_000
"""Steps of SQLite between two looks at the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Rows that answer a question, with the query that found them."""

    question: str
    text: str
    query: str
    bindings: dict[str, Any]
    """Values of the parameters in the query; times are seconds since 1970, UTC."""
    columns: list[str]
    rows: list[list[Any]]
    tier: str
    """Origin of the joules and watts."""
    note: str = ""


@contextlib.contextmanager
def reading(root: Path, *, limit_s: float = inf) -> Iterator[sqlite3.Connection]:
    """Open the store of a floor read-only.

    Args:
        root: folder of the floor.
        limit_s: longest time until the block ends [s]; a query that takes longer is broken off.

    Raises:
        ValueError: there is none, it is damaged, a newer version wrote it, or a query has taken too long.
        StoreError: it cannot be read.
    """
    path = root / FILE
    if not path.is_file():
        raise ValueError(f"root={root}: no floor there; submit a line first")
    store_files.check(path)
    due_s = time.monotonic() + limit_s
    with store_faults(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_TIMEOUT_S, uri=True)
        with contextlib.closing(connection):
            # `mode=ro` guards this file, the pragma any other one that a query might open.
            connection.execute("PRAGMA query_only = ON")
            if not schema.check(connection, path):
                raise ValueError(f"{path}: not the database of a floor; choose another --root")
            # SQLite would otherwise hear neither of a limit nor of Ctrl-C before a query has ended.
            connection.set_progress_handler(lambda: time.monotonic() > due_s, _INSTRUCTIONS)
            try:
                yield connection
            except sqlite3.OperationalError as error:
                if str(error) != "interrupted":
                    raise
                if time.monotonic() <= due_s:
                    # Python drops what a signal raises inside of the handler.
                    raise KeyboardInterrupt from error
                raise ValueError(
                    f"ask: no answer within {limit_s:g} s; ask about a shorter time, such as hours=1"
                ) from error


def answer(connection: sqlite3.Connection, choice: Choice, *, now: float) -> Answer:
    """Answer a question.

    Args:
        connection: the floor's store.
        choice: the question with its parameters.
        now: end of the time that it is about, in seconds since 1970.

    Raises:
        ValueError: it is about a line, and none is named or there is no such line.
    """
    question = choice.question
    if "line" in question.parameters:
        _check_line(connection, choice.parameters.line)
    bound = _bindings(connection, choice, now)
    # The answer shows these values with the query, so there is nothing in them that it does not use.
    bound = {name: value for name, value in bound.items() if f":{name}" in question.query}
    # Tables of the operator are missing until it has watched this floor.
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (question.table,)).fetchone()
    columns: list[str] = []
    rows: list[list[Any]] = []
    note = ""
    if known is None:
        note = "no operator has watched this floor"
    else:
        found = connection.execute(question.query, bound)
        columns = [column[0] for column in found.description]
        rows = [
            [decoding.decode(cell, _CELL, name=name) for name, cell in zip(columns, row, strict=True)]
            for row in found
        ]
    return Answer(
        question=question.name,
        text=question.text,
        query=question.query.strip(),
        bindings=bound,
        columns=columns,
        rows=rows,
        tier=_state(connection, "running", "$.tier") or "none",
        note=note,
    )


def _bindings(connection: sqlite3.Connection, choice: Choice, now: float) -> dict[str, Any]:
    """Return the values of all parameters that queries have."""
    return {
        "since": now - 3600.0 * choice.parameters.hours,
        "now": now,
        "rows": choice.parameters.rows,
        "line": choice.parameters.line,
        "pue": _state(connection, "grid", "$.pue") or SiteConfig().pue,
        "ageing_s": Settings().ageing_s,
        "gap_s": GAP_S,
    }


def _check_line(connection: sqlite3.Connection, line: int | None) -> None:
    if line is None:
        raise ValueError("line: name one, such as line=3; `status` lists the lines")
    found = connection.execute("SELECT 1 FROM line WHERE id = ?", (line,)).fetchone()
    require(found is not None, "line", line, "not on this floor; `status` lists the lines")


def _state(connection: sqlite3.Connection, key: str, path: str) -> Any:
    """Return a value that the floor keeps under a key; None if it does not."""
    row = connection.execute("SELECT json_extract(value, ?) FROM state WHERE key = ?", (path, key)).fetchone()
    if row is None:
        return None
    return row[0]
