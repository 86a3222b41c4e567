"""The table of reward terms in a run's folder."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write

_MAX_DIGITS = 20
"""Digits of a step, which has 64 bits."""


class RewardTable:
    """`reward_terms.csv`: the mean of every reward term in a control step, one row an iteration."""

    def __init__(self, path: Path, names: tuple[str, ...], resumed_at: int) -> None:
        """Open the table.

        Rows later than `resumed_at` are dropped; a kill in between loses none of the others.
        """
        # The resumed run writes the rows after its checkpoint again.
        kept = []
        if path.exists() and resumed_at:
            # Numbers need no quotes, and `csv` refuses a long cell with an error of its own.
            rows = (line.split(",") for line in stored_files.read_lines(path))
            steps = [row for row in rows if row and row[0].isdecimal() and len(row[0]) < _MAX_DIGITS]
            kept = [row for row in steps if int(row[0]) <= resumed_at and all(map(_is_number, row))]
        with atomic_write(path) as unfinished, unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([["step", *names], *kept])
        # csv writes its own line ends. The file stays open for all rows.
        handle = stored_files.no_link(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._file = os.fdopen(handle, "a", newline="")
        self._writer = csv.writer(self._file)

    def append(self, step: int, terms: list[float]) -> None:
        """Add a row and hand it to the operating system."""
        self._writer.writerow([step, *(f"{value:.6g}" for value in terms)])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number; a stranger's text could be a formula for a spreadsheet."""
    try:
        # An empty cell is a term that was not defined in that iteration.
        float(cell or "nan")
    except ValueError:
        return False
    return True
