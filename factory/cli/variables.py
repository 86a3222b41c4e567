"""Environment variables of other libraries that would end a job with an error of theirs."""

from __future__ import annotations

import os

from factory.runtime import ranks

_LEAST = {
    "RANK": 0,
    "LOCAL_RANK": 0,
    "WORLD_SIZE": 1,
    "LOCAL_WORLD_SIZE": 1,
    "NUMBA_NUM_THREADS": 1,
}
"""Variables that are integers, with their least values."""


def check_variables() -> None:
    """Raise ValueError for the first variable whose value cannot be used, by its name."""
    for name, least in _LEAST.items():
        value = os.environ.get(name)
        if value is not None and not (value.strip().isdecimal() and int(value) >= least):
            raise ValueError(f"{name}={value}: must be an integer of at least {least}; correct or unset it")
    if ranks.rank() >= ranks.size():
        remedy = "start with torchrun, or unset RANK and WORLD_SIZE"
        raise ValueError(f"RANK={ranks.rank()}: must be below WORLD_SIZE={ranks.size()}; {remedy}")
    if ranks.size() > 1 and "MASTER_ADDR" not in os.environ:
        remedy = "start with torchrun, or unset RANK and WORLD_SIZE"
        raise ValueError(f"WORLD_SIZE={ranks.size()}: set in the environment without MASTER_ADDR; {remedy}")
    if "MPLBACKEND" in os.environ:
        # Only matplotlib knows its backends, and only a set variable is worth the import.
        try:
            import matplotlib  # noqa: F401
        except ValueError as error:
            raise ValueError(f"MPLBACKEND={os.environ['MPLBACKEND']}: {error}; unset it") from error
