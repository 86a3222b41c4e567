"""Description of the machine: processor, memory, GPUs, and settings that change its speed."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.runtime import device
from factory.runtime.strict_json import nan_to_none

# `powersave` may halve the speed.
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# Settings that change the speed of torch on a CPU without a trace in the configuration.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS")


def name() -> str:
    """Return the machine's name for people: processor, CPUs of this process, memory and GPUs."""
    memory_gib = psutil.virtual_memory().total / 2**30
    parts = [device.cpu_name(), f"{device.available_cpus()} CPUs", f"{memory_gib:.0f} GiB"]
    return ", ".join([*parts, *(_gpu(index)["name"] for index in range(torch.cuda.device_count()))])


def load() -> float:
    """Return how many processes wanted to run, on average over a minute; NaN where that is unknown."""
    if hasattr(os, "getloadavg"):
        return os.getloadavg()[0]
    return math.nan


def describe() -> dict[str, Any]:
    """Return the facts as plain values, None if unknown; the load is that of this moment."""
    # Host and allocation side by side: in a container they differ, and both affect the speed.
    cgroup = Cgroup()
    return {
        "cpu": device.cpu_name(),
        "cpus_of_host": os.cpu_count(),
        "cpus_available": device.available_cpus(),
        "cores_allocated": allocated_cores(cgroup),
        "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.is_file() else None,
        "load_average_1min": nan_to_none(load()),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_limit_bytes": cgroup.memory_limit_bytes(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "system": platform.platform(),
        "torch_threads": torch.get_num_threads(),
        "environment": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
    }


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
