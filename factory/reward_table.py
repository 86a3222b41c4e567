"""The table of reward terms in a run's folder."""

from __future__ import annotations

import csv
from pathlib import Path


class RewardTable:
    """`reward_terms.csv`: the mean of every reward term in a control step, one row an iteration."""

    def __init__(self, path: Path, names: tuple[str, ...], resumed_at: int) -> None:
        """Open the table; rows later than `resumed_at` are dropped."""
        kept = []
        if path.exists() and resumed_at:
            kept = [row for row in csv.reader(path.open()) if row and row[0].isdigit() and int(row[0]) <= resumed_at]
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["step", *names])
        self._writer.writerows(kept)

    def append(self, step: int, terms: list[float]) -> None:
        """Add a row and hand it to the operating system."""
        self._writer.writerow([step, *(f"{value:.6g}" for value in terms)])
        self._file.flush()

    def __enter__(self) -> RewardTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
