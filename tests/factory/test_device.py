"""Threads and memory of torch on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from factory import device

ROOT = Path(__file__).parents[2]
FAULTS = """
import resource, sys, torch
from factory import device
if sys.argv[1] == "set_up":
    device.set_up(1)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    before = faults()
    held = [torch.ones(1_000_000) for _ in range(40)]
    del held
print(faults() - before)
"""


def page_faults(how: str) -> int:
    """Return the page faults of 160 MB of tensors, made for the sixth time in a process of their own."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
def test_set_up_keeps_freed_memory() -> None:
    """What was freed is used again and not fetched anew from the kernel, as it is without the set-up."""
    assert page_faults("set_up") < 10_000 < page_faults("nothing")


def test_threads_are_taken_for_a_block_only() -> None:
    """The block has the number asked for; afterwards torch has the number it had, also when the block fails."""
    before = torch.get_num_threads()
    with pytest.raises(KeyError), device.torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_small_work_wakes_no_second_thread() -> None:
    """Whatever is allowed, a small policy takes one thread, and large work no more than are allowed."""
    with device.torch_threads(3):
        assert device.inference_threads(1024 * 8_000) == 1
        assert device.inference_threads(10**12) == 3
        assert device.elementwise_threads(1024 * 60) == 1
        assert device.elementwise_threads(10**9) == 3
