"""A session with NVML, NVIDIA's management library."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from factory.power.actuator import Refused


@contextmanager
def nvml_session(lib: Any = None) -> Iterator[Any]:
    """Hold the library open inside the block.

    Args:
        lib: a module like `pynvml`; the installed one if None.

    Raises:
        Refused: it is not installed, or there is no driver.
    """
    try:
        # Imported here: the package is an extra, and loading it needs NVIDIA's driver.
        lib = lib or importlib.import_module("pynvml")
        # NVML counts its users: every `nvmlInit` needs a `nvmlShutdown`.
        lib.nvmlInit()
    except Exception as error:  # ImportError, or whatever the library raises without a driver
        raise Refused(f"NVML cannot be asked: {error}") from error
    try:
        yield lib
    finally:
        with suppress(lib.NVMLError):
            lib.nvmlShutdown()
