"""Kernels leave torch's number of threads alone, whatever CPUs the process may use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
import torch
torch.set_num_threads(3)
# torch takes over the number when it is asked for the first time.
torch.get_num_threads()
from factory.kernels import passes
x = np.ones((1000, 4), np.float32)
flat = np.ones(4 * 8 + 8 + 8 * 2 + 2, np.float32)
for _ in range(3):
    passes.forward(x, flat, [4, 8, 2], "tanh", threads=3, keep=True)
    print(torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to CPUs")
def test_fewer_cpus_than_threads_change_nothing() -> None:
    """A process that is bound to one CPU goes on with the threads it was given, and so with the same sums."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "3", "3"]
