"""Check settings: a wrong value ends in one line with its key and the remedy."""

from __future__ import annotations


def require(condition: bool, key: str, value: object, remedy: str) -> None:
    """Raise ValueError naming key, value and remedy unless `condition` holds."""
    if not condition:
        raise ValueError(f"{key}={value}: {remedy}")
