"""Threads and memory of torch on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from factory.runtime import device

ROOT = Path(__file__).parents[3]
KEPT = """
import sys, psutil, torch
from factory.runtime import device
if sys.argv[1] == "set_up":
    device.set_up(1)
resident = lambda: psutil.Process().memory_info().rss
before = resident()
held = [torch.ones(4_000_000) for _ in range(10)]
del held
print(resident() - before)
"""


def kept_bytes(how: str) -> int:
    """Return what stays resident of 160 MB of tensors after they are freed, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", KEPT, how], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
def test_set_up_keeps_freed_memory() -> None:
    """What was freed is kept for the next tensors; without the set-up the kernel has it back at once."""
    assert kept_bytes("nothing") < 80_000_000 < kept_bytes("set_up")


def test_threads_are_taken_for_a_block_only() -> None:
    """The block has the number asked for; afterwards torch has the number it had, also when the block
    fails.
    """
    before = torch.get_num_threads()
    with pytest.raises(KeyError), device.torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


PARTS = """
import os, sys
from factory.runtime import device
os.environ |= {"LOCAL_WORLD_SIZE": sys.argv[1], "LOCAL_RANK": sys.argv[2]}
given = sorted(os.sched_getaffinity(0))
device.keep_to_own_cpus()
print(given == list(device._visible()), *(given.index(cpu) for cpu in sorted(os.sched_getaffinity(0))))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot tell CPUs apart")
def test_processes_keep_to_cpus_of_their_own() -> None:
    """Processes of one host share its CPUs out equally and still know of all; a single one keeps them all."""

    def kept(processes: int, rank: int) -> list[int]:
        command = [sys.executable, "-c", PARTS, str(processes), str(rank)]
        knows_all, *cpus = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        assert knows_all == "True"
        return [int(cpu) for cpu in cpus]

    count = device.available_cpus()
    assert kept(1, 0) == list(range(count))
    assert sorted(kept(count, 0) + kept(count, count - 1)) == [0, count - 1]
    assert len(kept(count + 1, count)) == 1, "more processes than CPUs have to share"


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1.9, 1), (1e9, None)])
def test_quota_of_the_control_group_limits_the_threads(
    monkeypatch: pytest.MonkeyPatch, cores: float, threads: int | None
) -> None:
    """A container given two of 64 visible CPUs does not start 64 threads."""
    visible = device.available_cpus()
    monkeypatch.setattr(device, "allocated_cores", lambda cgroup: cores)
    device.available_cpus.cache_clear()
    try:
        assert device.available_cpus() == len(device.own_cpus()) == (threads or visible)
    finally:
        device.available_cpus.cache_clear()


def test_small_work_wakes_no_second_thread() -> None:
    """Whatever is allowed, a small policy takes one thread, and large work no more than are allowed."""
    with device.torch_threads(3):
        assert device.inference_threads(1024 * 8_000) == 1
        assert device.inference_threads(10**12) == 3
        assert device.elementwise_threads(1024 * 60) == 1
        assert device.elementwise_threads(10**9) == 3


@pytest.mark.parametrize(
    ("precision", "products"), [("float32", "highest"), ("tf32", "high"), ("bfloat16", "highest")]
)
def test_precision_of_float32_products_on_a_gpu(precision: str, products: str) -> None:
    """Only tf32 lets a GPU round the factors of float32 products, and a later job takes it back."""
    before = torch.get_num_threads()
    try:
        device.set_up(before, precision=precision)
        assert torch.get_float32_matmul_precision() == products
    finally:
        device.set_up(before)
    assert torch.get_float32_matmul_precision() == "highest"
