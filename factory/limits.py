"""Limits and times that may be missing: infinite in calculations, None in JSON and SQLite."""

from __future__ import annotations

from math import inf, isfinite


def stored_limit(limit: float) -> float | None:
    """Return a limit as it is stored: None if there is none."""
    if isfinite(limit):
        return limit
    return None


def limit_of(stored: float | None) -> float:
    """Return a limit that was stored: infinite if there is none."""
    if stored is None:
        return inf
    return stored
