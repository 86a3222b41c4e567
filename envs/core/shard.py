"""Which of a run's worlds an environment holds, where several processes share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `index`-th of `count` equal parts of all worlds.

    Every part draws the random numbers of all worlds and keeps its own, so that a run is the same, but for
    rounding, however many processes share it.
    """

    index: int = 0
    count: int = 1

    def draw(self, sample: Callable[[tuple[int, ...]], Tensor], rows: int, *size: int) -> Tensor:
        """Return this part's rows of what `sample` draws for a shape. Shape: (rows, *size)."""
        return sample((rows * self.count, *size))[self.rows(rows)]

    def rows(self, rows: int) -> slice:
        """Return where this part's `rows` are among those of all parts."""
        return slice(self.index * rows, (self.index + 1) * rows)
