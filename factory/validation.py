"""Check settings: a wrong value ends in one line with its key and the remedy."""

from __future__ import annotations

MOST_THREADS = 4096
"""Most threads that a setting may ask for; no machine has so many cores, and a slip of the keyboard more."""


def require(condition: bool, key: str, value: object, remedy: str) -> None:
    """Raise ValueError naming key, value and remedy unless `condition` holds."""
    if not condition:
        raise ValueError(f"{key}={value}: {remedy}")
