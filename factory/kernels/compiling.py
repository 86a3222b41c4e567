"""Compilation of kernels, and their calls in several threads."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
import torch
from numba.core import event

Floats = npt.NDArray[np.float32]
_numba: Any = numba.config
_HERE = Path(__file__).parent
_one_at_a_time = threading.Lock()
"""Lock: some of Numba's threading layers must not be entered from two threads at once."""


def are_enabled() -> bool:
    """Return False if `FACTORY_KERNELS=off` or `NUMBA_DISABLE_JIT=1` is set, so that torch computes instead.

    Raises:
        ValueError: `FACTORY_KERNELS` is neither on nor off.
    """
    choice = os.environ.get("FACTORY_KERNELS", "on")
    if choice not in ("on", "off"):
        raise ValueError(f"FACTORY_KERNELS={choice}: choose on or off")
    # Without its compiler, Numba would interpret the kernels, thousands of times slower.
    return choice == "on" and not _numba.DISABLE_JIT


class _Notice(event.Listener):
    """Prints one line when a kernel is compiled, so that the wait does not look like a hang."""

    is_shown = False

    def on_start(self, event: Any) -> None:
        """Print the line when the first of our kernels is compiled."""
        # Numba also compiles functions of other packages, which are not what takes the time here.
        if not self.is_shown and event.data["dispatcher"].__module__.startswith(__package__):
            self.is_shown = True
            print("compiling CPU kernels (about 10 s, cached afterwards)", file=sys.stderr)

    def on_end(self, event: Any) -> None:
        """Do nothing."""


event.register("numba:compile", _Notice())


def compiled(*, contract: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function at its first call and caches it for all processes.

    Args:
        contract: let multiply-adds fuse; without it, every operation rounds as torch's own does.
        options: further options of `numba.njit`.
    """
    # Nothing may be reordered, so that results are reproducible.
    fastmath = {"contract"}
    if not contract:
        fastmath = set()
    # error_model: a division by zero gives inf as in NumPy, without a branch in the loop.
    jit = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath=fastmath, **options)

    def decorate(function: Callable[..., Any]) -> Any:
        # Numba reads its cache folder when a function is decorated; the setting is global, so it is put back.
        before = _numba.CACHE_DIR
        _numba.CACHE_DIR = str(Path(before or _HERE / "__pycache__") / _version())
        try:
            return jit(cache=True)(function)
        except RuntimeError:  # no folder can be written
            return jit()(function)
        finally:
            _numba.CACHE_DIR = before

    return decorate


@functools.cache
def _version() -> str:
    """Digest this package and the processor; Numba checks the function's file, not its callees."""
    processor = llvmlite.binding.get_host_cpu_features().flatten().encode()
    sources = (path.read_bytes() for path in sorted(_HERE.glob("*.py")))
    return hashlib.sha256(b"".join([processor, *sources])).hexdigest()[:16]


def check(values: Floats, *shape: int) -> None:
    """Raise ValueError unless an array has the shape, type and layout that kernels assume unchecked."""
    is_contiguous = values.flags.c_contiguous
    if values.shape != shape or values.dtype != np.float32 or not is_contiguous:
        found = f"{values.dtype} {values.shape}"
        if not is_contiguous:
            found += ", not contiguous"
        raise ValueError(f"expected contiguous float32 {shape}, got {found}")


def share(kernels: tuple[Callable[..., None], Callable[..., None]], threads: int, *args: Any) -> None:
    """Run the parallel kernel in several threads, or the single-threaded one in the calling thread."""
    parallel, single = kernels
    # Waking Numba's threads costs more than a small network's whole pass.
    if threads == 1:
        single(*args, 1, 0)
        return
    torch_threads = torch.get_num_threads()
    with _one_at_a_time:
        numba.set_num_threads(min(threads, _numba.NUMBA_NUM_THREADS))
        parallel(*args, threads)
    # Numba's OpenMP layer sets the number of threads of the whole process. With fewer usable CPUs than
    # threads, torch would go on with fewer, and round differently.
    if torch.get_num_threads() != torch_threads:
        torch.set_num_threads(torch_threads)
