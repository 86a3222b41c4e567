"""The table of reward terms in a run's folder."""

from __future__ import annotations

import csv
from pathlib import Path

from factory.runtime.atomic_write import atomic_write


class RewardTable:
    """`reward_terms.csv`: the mean of every reward term in a control step, one row an iteration."""

    def __init__(self, path: Path, names: tuple[str, ...], resumed_at: int) -> None:
        """Open the table.

        Rows later than `resumed_at` are dropped; a kill in between loses none of the others.
        """
        # The resumed run writes the rows after its checkpoint again.
        kept = []
        if path.exists() and resumed_at:
            with path.open(newline="") as file:
                steps = [row for row in csv.reader(file) if row and row[0].isdigit()]
            kept = [row for row in steps if int(row[0]) <= resumed_at]
        with atomic_write(path) as unfinished, unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([["step", *names], *kept])
        # csv writes its own line ends.
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)

    def append(self, step: int, terms: list[float]) -> None:
        """Add a row and hand it to the operating system."""
        self._writer.writerow([step, *(f"{value:.6g}" for value in terms)])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
