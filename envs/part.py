"""Which of a run's worlds an environment holds, where several processes share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


class PartLostError(RuntimeError):
    """Another process of the run ended while this one waited for it."""


@dataclass(frozen=True, kw_only=True)
class Part:
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

    def any(self, mask: Tensor) -> bool:
        """Say whether any entry is True in any part: all of them draw, or none. Shape: (num_envs,) bool."""
        found = mask.any()
        if self.count > 1:
            found = reduce_(found.to(torch.uint8), dist.ReduceOp.MAX)
        return bool(found)


@contextmanager
def waiting() -> Iterator[None]:
    """Exchange something with the other processes inside the block.

    Raises:
        PartLostError: one of them is no more.
    """
    try:
        yield
    except RuntimeError as error:  # what gloo raises; NCCL's errors derive from it
        raise PartLostError("another process of this run ended") from error


def reduce_(tensor: Tensor, how: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Combine `tensor` with that of all other processes, in place, and return it."""
    with waiting():
        dist.all_reduce(tensor, how)
    return tensor
