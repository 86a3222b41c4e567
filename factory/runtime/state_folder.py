"""The folder in which commands keep what outlives their runs."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """Return the folder: `FACTORY_STATE_DIR`, else `robot-factory` in the user's folder for state.

    It need not exist. Source: XDG Base Directory Specification, `XDG_STATE_HOME`.
    """
    if chosen := os.environ.get("FACTORY_STATE_DIR"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "robot-factory"
