"""GPUs that a floor hands out, as NVML lists them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from factory.energy.sources.base import SourceUnavailable
from factory.energy.sources.nvml_board import Board
from factory.energy.sources.nvml_devices import visible_gpus


def visible(environ: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return the power limit of each GPU [W] by its UUID, in the order of CUDA.

    Args:
        environ: Holds `CUDA_VISIBLE_DEVICES`; the environment of this process if None.

    Returns:
        Nothing where no GPU is visible, or `nvidia-ml-py` or the driver is missing.
    """
    if environ is None:
        environ = os.environ
    try:
        lib: Any = importlib.import_module("pynvml")
    except ImportError:
        return {}
    try:
        lib.nvmlInit()
    except (lib.NVMLError, AttributeError):
        return {}
    try:
        found, _ = visible_gpus(lib, environ, indices=None)
        return {gpu.uuid: Board(lib, gpu).limit_w for gpu in found}
    except (SourceUnavailable, lib.NVMLError):
        return {}
    finally:
        with suppress(lib.NVMLError):
            lib.nvmlShutdown()
