"""Values for strict JSON, which has neither NaN nor infinity."""

from __future__ import annotations

import json
import math
from typing import Any


def nan_to_none(value: Any) -> Any:
    """Return plain containers with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(item) for item in value]
    # `json` would write NaN and Infinity, which browsers and jq refuse.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any, *, indent: int | None = 1) -> str:
    """Return plain values as strict JSON, with null in place of NaN and infinity."""
    return json.dumps(nan_to_none(value), indent=indent, allow_nan=False)
