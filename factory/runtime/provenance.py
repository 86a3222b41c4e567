"""Provenance of a run: code, library versions, and their tags."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import factory

_LIBRARIES = (
    "torch",
    "numpy",
    "gymnasium",
    "mujoco",
    "mjbatch",
    "mujoco-warp",
    "warp-lang",
    "hydra-core",
    "mlflow",
)


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that affect results."""
    # Packages of an extra may be missing.
    found = {"python": sys.version.split()[0], "factory": factory.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_tags() -> dict[str, str]:
    """Return commit and dirty flag of the checkout the code runs from; `unknown` for an installed wheel."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {"git.commit": "unknown", "git.dirty": "unknown"}
    return {"git.commit": commit, "git.dirty": str(bool(_git("status", "--porcelain"))).lower()}


FLOOR_VARIABLES = {
    "floor.id": "FACTORY_FLOOR_ID",
    "floor.line": "FACTORY_FLOOR_LINE",
    "floor.attempt": "FACTORY_FLOOR_ATTEMPT",
}
"""Tags of a run that a factory floor started, and the variables from which they come."""


def floor_tags() -> dict[str, str]:
    """Return the floor, line and attempt that this process trains for; empty without a floor."""
    return {tag: os.environ[name] for tag, name in FLOOR_VARIABLES.items() if name in os.environ}


def _git(*arguments: str) -> str:
    # Only a checkout of this package counts: a wheel may be installed inside somebody else's repository.
    folder = Path(factory.__file__).parents[1]
    if not (folder / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
