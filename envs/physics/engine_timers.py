"""MuJoCo's own timers (`mjData.timer`), for which it reads a clock some thirty times in every time step."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import mujoco


def _clock() -> ctypes.c_void_p:
    """Return the engine's pointer to its clock; a pointer of our own where its library is not found."""
    for library in Path(mujoco.__file__).parent.glob("*mujoco.*"):
        with contextlib.suppress(OSError, ValueError):
            return ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
    return ctypes.c_void_p()


_CLOCK = _clock()


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Let nothing be timed: the Python package gives the engine a clock, and reading it takes up to a sixth of a step.

    The pointer is the process's (`mjcb_time`), so the clock is back after the block.
    """
    clock, _CLOCK.value = _CLOCK.value, None
    try:
        yield
    finally:
        _CLOCK.value = clock
