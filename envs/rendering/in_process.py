"""Preparation for environments that open OpenGL themselves, in the training process."""

from __future__ import annotations

import importlib
from contextlib import suppress


def load_triton_first() -> None:
    """Load triton, if it is installed, before an OpenGL driver is.

    Mesa's drivers and triton, which torch loads during export, each bring an LLVM. With triton first both
    work; the other way round `import triton` crashes the process.
    """
    with suppress(ImportError):
        importlib.import_module("triton")
