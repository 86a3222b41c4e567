"""The processes that train one policy together, as `torchrun` starts them.

With a single process, every function returns its input.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from factory.envs.core.shard import Shard
from factory.runtime.ranks import PeerLostError as PeerLostError
from factory.runtime.ranks import local_rank as local_rank
from factory.runtime.ranks import local_size as local_size
from factory.runtime.ranks import rank as rank
from factory.runtime.ranks import size as size

T = TypeVar("T")

_HINT_AFTER_S = 10.0
"""Time after which a process that waits for the others prints a hint [s]."""


def _hint() -> None:
    waiting = (
        f"waiting for the other processes: RANK={rank()} and WORLD_SIZE={size()} are set in the environment"
    )
    print(f"{waiting}; unset both to train with one process", file=sys.stderr, flush=True)


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Hold the connection to the other processes, over NCCL between GPUs and gloo between CPUs."""
    if size() == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(local_rank())
    # Ranks wait for each other for an iteration at most, as only rank 0 evaluates. But the variables may be
    # left over from an earlier torchrun, and then no other process ever connects: print a hint.
    hint = threading.Timer(_HINT_AFTER_S, _hint)
    hint.daemon = True
    hint.start()
    backend = "gloo"
    if device == "cuda":
        backend = "nccl"
    try:
        _connect(backend)
    finally:
        hint.cancel()
    try:
        yield
    finally:
        dist.destroy_process_group()


def _connect(backend: str) -> None:
    """Connect to the other processes, in a thread: torch answers no signal while it waits for them."""
    errors: list[BaseException] = []

    def connect() -> None:
        try:
            dist.init_process_group(backend, timeout=timedelta(minutes=10))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if errors:
        raise errors[0]


def all_reduce_sum_(tensor: Tensor) -> Tensor:
    """Add up `tensor` over all processes, in place, and return it."""
    if dist.is_initialized():
        with _waiting():
            dist.all_reduce(tensor)
    return tensor


def shard() -> Shard:
    """Return this process's shard of the worlds."""
    return Shard(index=rank(), count=size())


def gather(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their worlds. Shape: (n, ...) -> (n * size, ...)."""
    if not dist.is_initialized():
        return tensor
    # gloo has no bool, so its bytes are sent.
    if tensor.dtype == torch.bool:
        own = tensor.contiguous().view(torch.uint8)
    else:
        own = tensor.contiguous()
    rows = [torch.empty_like(own) for _ in range(size())]
    with _waiting():
        dist.all_gather(rows, own)
    return torch.cat(rows).view(tensor.dtype)


def gather_from_peers(value: T) -> list[T]:
    """Return the values of all other processes, ordered by rank."""
    if not dist.is_initialized():
        return []
    values: list[Any] = [None] * size()
    with _waiting():
        dist.all_gather_object(values, value)
    return [*values[: rank()], *values[rank() + 1 :]]


def any_rank(flag: bool) -> bool:
    """Return whether `flag` is set in any process."""
    # There is no reduction by `or`, so the flags are added.
    return bool(all_reduce_sum_(torch.tensor(float(flag), device=_device())))


@contextmanager
def _waiting() -> Iterator[None]:
    """Report a failed exchange with the other processes inside the block.

    Raises:
        PeerLostError: one of them ended.
    """
    try:
        yield
    except RuntimeError as error:  # what gloo raises; NCCL's errors derive from it
        raise PeerLostError("another process of this run ended") from error


def _device() -> str:
    # NCCL exchanges GPU memory only.
    if dist.is_initialized() and dist.get_backend() == "nccl":
        return "cuda"
    return "cpu"
