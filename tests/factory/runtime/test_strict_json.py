"""JSON has no NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path

from factory.runtime import strict_json
from factory.runtime.strict_json import nan_to_none


def test_figures_that_are_not_finite_become_null_at_any_depth() -> None:
    """NaN and infinities turn into null inside mappings, lists and tuples; all else stays."""
    value = {"a": math.nan, "b": [1.5, math.inf, (2, -math.inf)], "c": {"d": "nan", "e": None}}
    plain = {"a": None, "b": [1.5, None, [2, None]], "c": {"d": "nan", "e": None}}
    assert json.loads(json.dumps(nan_to_none(value), allow_nan=False)) == plain


def test_what_is_printed_is_strict_json() -> None:
    """An infinite figure is null."""
    assert json.loads(strict_json.dumps({"error": math.inf}), parse_constant=None) == {"error": None}


def test_no_command_prints_json_of_its_own() -> None:
    """Whatever commands print as JSON goes through one function."""
    sources = Path(strict_json.__file__).parents[1].rglob("*.py")
    own = [path.name for path in sources if "print(json.dump" in path.read_text(encoding="utf-8")]
    assert own == []
