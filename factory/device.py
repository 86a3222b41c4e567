"""The device of policy and learner, and the threads torch may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_threads(torch_threads: int) -> None:
    """Let torch use `torch_threads` threads, all available CPUs when 0."""
    torch.set_num_threads(torch_threads or available_cpus())


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def inference_threads(multiply_adds: int) -> int:
    """Return how many threads a network pass of so many multiply-adds is worth waking, of those allowed."""
    return min(torch.get_num_threads(), 1 + multiply_adds // 40_000_000)


def elementwise_threads(elements: int) -> int:
    """Return how many threads operations on tensors of so many elements are worth waking, of those allowed."""
    return min(torch.get_num_threads(), 1 + elements // 500_000)


def describe(device: torch.device) -> str:
    """Return the device's name for tags and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {available_cpus()} CPUs"


def cpu_name() -> str:
    """Return the processor's name, or its architecture where the system tells no more."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
