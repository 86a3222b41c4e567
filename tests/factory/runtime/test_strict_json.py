"""JSON has no NaN."""

from __future__ import annotations

import json
import math

from factory.runtime.strict_json import nan_to_none


def test_figures_that_are_not_finite_become_null_at_any_depth() -> None:
    """NaN and infinities turn into null inside mappings, lists and tuples; all else stays."""
    value = {"a": math.nan, "b": [1.5, math.inf, (2, -math.inf)], "c": {"d": "nan", "e": None}}
    plain = {"a": None, "b": [1.5, None, [2, None]], "c": {"d": "nan", "e": None}}
    assert json.loads(json.dumps(nan_to_none(value), allow_nan=False)) == plain
