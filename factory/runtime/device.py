"""The device of policy and learner, and the threads torch may use."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.runtime import distributed
from factory.runtime.cpus import usable_cpus

# Parameters of `mallopt`, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@functools.cache
def _visible() -> tuple[int, ...]:
    """Return the CPUs that this process was given, before `keep_to_own_cpus` restricted it."""
    return usable_cpus()


@functools.cache
def available_cpus() -> int:
    """Return how many CPUs this process may keep busy, together with the run's others on this host.

    The limits are its affinity and the quota of its control group (`docker --cpus`); at least one.
    """
    return min(len(_visible()), max(1, int(allocated_cores(Cgroup()))))


def own_cpus() -> tuple[int, ...]:
    """Return the CPUs of this process: at least one, and equally many for each process of the run."""
    count = max(1, available_cpus() // distributed.local_size())
    # Neighbouring ranks get neighbouring CPUs; with more ranks than CPUs they wrap around.
    first = distributed.local_rank() * count % len(_visible())
    return _visible()[first : first + count]


def keep_to_own_cpus() -> None:
    """Keep off the CPUs of the run's other processes: a thread that wakes there waits for milliseconds.

    Energy sources count the CPUs themselves, so they must be opened before.
    """
    if distributed.local_size() > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, own_cpus())


def set_up(torch_threads: int, *, precision: str = "float32") -> None:
    """Set the global options of the process: threads, precision of products, memory that is kept.

    Args:
        torch_threads: threads that torch may use; this process's share of the CPUs when 0.
        precision: `policy.precision`; with `tf32` a GPU rounds the factors of float32 products to 10 bits.
    """
    torch.set_num_threads(torch_threads or len(own_cpus()))
    # torch's name for TF32 is "high"; "highest" is plain float32.
    product_precision = "highest"
    if precision == "tf32":
        product_precision = "high"
    torch.set_float32_matmul_precision(product_precision)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next tensor instead of handing them back to the kernel.

    Otherwise every activation of a minibatch is fresh memory, whose first touch is a page fault for every 4
    KiB: up to a third of an update's time on a CPU. Does nothing where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    # glibc's maximum; larger blocks always go back to the kernel.
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads inside the block."""
    # The number is global, so the one before comes back even after an error.
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def inference_threads(multiply_adds: int) -> int:
    """Return the number of threads worth using for a network pass of so many multiply-adds."""
    # One more thread for every 40 million: below that, waking it takes longer than it saves.
    return min(torch.get_num_threads(), 1 + multiply_adds // 40_000_000)


def elementwise_threads(elements: int) -> int:
    """Return the number of threads worth using on tensors of so many elements."""
    # Elementwise operations wait for memory, which a second thread helps only with large tensors.
    return min(torch.get_num_threads(), 1 + elements // 500_000)


def describe(device: torch.device) -> str:
    """Return the device's name for tags and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {available_cpus()} CPUs"


def cpu_name() -> str:
    """Return the processor's name, or its architecture if the name is unknown."""
    # `platform.processor` is empty on most Linux systems.
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
