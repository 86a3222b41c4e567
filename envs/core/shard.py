"""The share of a run's worlds that one process simulates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `index`-th of `count` equal shards of all worlds.

    Every shard draws the random numbers of all worlds and keeps its own, so that a run is the same, but for
    rounding, however many processes share it.
    """

    index: int = 0
    count: int = 1

    def draw(self, sample: Callable[[tuple[int, ...]], Tensor], rows: int, *size: int) -> Tensor:
        """Return this shard's rows of the values that `sample` draws for all. Shape: (rows, *size)."""
        # All processes draw everything: their generators stay equal, and no draw depends on their number.
        return sample((rows * self.count, *size))[self.rows(rows)]

    def rows(self, rows: int) -> slice:
        """Return the place of this shard's `rows` among those of all shards."""
        return slice(self.index * rows, (self.index + 1) * rows)
