"""MuJoCo's own shared library, for what its Python package does not offer."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import mujoco


def engine_library() -> ctypes.CDLL:
    """Return the library that the package itself has loaded.

    Raises:
        OSError: it is not where the package is.
    """
    for path in Path(mujoco.__file__).parent.glob("*mujoco.*"):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(path))
    raise OSError(f"MuJoCo's library is not in {Path(mujoco.__file__).parent}")
