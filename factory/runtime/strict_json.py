"""Values for JSON, which has no NaN and no infinity."""

from __future__ import annotations

import math
from typing import Any


def nan_to_none(value: Any) -> Any:
    """Return plain containers with None for figures that are not finite."""
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
