"""The device of policy and learner, and the threads torch may use."""

from __future__ import annotations

import os
import platform

import torch


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_threads(torch_threads: int) -> None:
    """Let torch use `torch_threads` threads, all available CPUs when 0."""
    torch.set_num_threads(torch_threads or available_cpus())


def describe(device: torch.device) -> str:
    """Return the device's name for tags and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {available_cpus()} CPUs"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
