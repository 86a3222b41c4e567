"""Where compiled kernels are kept, and what a user hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CALL = "from factory import kernels; kernels.prepare_gradient(1)"


def call(program: str, **environment: str) -> str:
    """Run a program; return what it says."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_kernels_are_compiled_once_and_said_so(tmp_path: Path) -> None:
    """The first process says what it waits for, once; the next finds the work done, in a folder of its
    own.
    """
    program = f"{CALL}; import numba; print(numba.config.CACHE_DIR)"
    assert call(program, NUMBA_CACHE_DIR=str(tmp_path)).count("compiling") == 1
    assert call(program, NUMBA_CACHE_DIR=str(tmp_path)) == f"{tmp_path}\n"
    (folder,) = tmp_path.iterdir()
    assert len(folder.name) == 16
