"""The processes that train one policy together, as `torchrun` starts them; a single process is the identity.

The worlds are split into equal parts. Every process draws the random numbers of all worlds and keeps those of its
part, so a run is the same, but for rounding, however many processes share it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Return this process's number; 0 keeps the ledger."""
    return int(os.environ.get("RANK", 0))


def size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Return this process's number on its host; 0 meters the host, and the number is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """Return the number of processes on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@contextmanager
def together(device: str) -> Iterator[None]:
    """Hold the connection to the other processes, over NCCL between GPUs and gloo between CPUs."""
    if size() == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(local_rank())
    # Rank 0 evaluates and films while the others have left, so nobody waits longer than for an iteration.
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(minutes=10))
    try:
        yield
    finally:
        dist.destroy_process_group()


def sum_(tensor: Tensor) -> Tensor:
    """Add up `tensor` over all processes, in place, and return it."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def part(num_envs: int) -> slice:
    """Return which of all `num_envs` worlds are this process's."""
    count = num_envs // size()
    return slice(rank() * count, (rank() + 1) * count)


def gather(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their worlds. Shape: (n, ...) -> (n * size, ...)."""
    if not dist.is_initialized():
        return tensor
    rows = [torch.empty_like(tensor) for _ in range(size())]
    dist.all_gather(rows, tensor.contiguous())
    return torch.cat(rows)


def broadcast(value: Any) -> Any:
    """Return what rank 0 passed."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def noise(like: Tensor, draw: Any) -> Tensor:
    """Return this process's rows of a draw for all. `draw` takes a shape. Shape: that of `like`, (rows, ...)."""
    rows = len(like)
    return draw((rows * size(), *like.shape[1:]))[rank() * rows : (rank() + 1) * rows]
