"""Threads and memory of torch on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from factory import device

ROOT = Path(__file__).parents[2]
KEPT = """
import sys, psutil, torch
from factory import device
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
    done = subprocess.run([sys.executable, "-c", KEPT, how], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
def test_set_up_keeps_freed_memory() -> None:
    """What was freed is kept for the next tensors; without the set-up the kernel has it back at once."""
    assert kept_bytes("nothing") < 80_000_000 < kept_bytes("set_up")


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


@pytest.mark.parametrize(("precision", "products"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_precision_of_float32_products_on_a_gpu(precision: str, products: str) -> None:
    """Only tf32 lets a GPU round the factors of float32 products, and a later job takes it back."""
    before = torch.get_num_threads()
    try:
        device.set_up(before, precision=precision)
        assert torch.backends.cuda.matmul.fp32_precision == products
    finally:
        device.set_up(before)
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
