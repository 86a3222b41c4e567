"""Values that the operator keeps in the floor's store."""

from __future__ import annotations

from math import inf
from typing import Annotated, NotRequired, TypedDict

from factory.floor.keys import Key
from factory.runtime.decoding import Count, Moment, Within

_Number = Annotated[float, Within(-inf, inf)]
"""An age or a limit that is not known is infinite."""


class StoredEvidence(TypedDict):
    """Fields of `Evidence`."""

    name: str
    value: _Number
    unit: str
    limit: _Number
    age_s: NotRequired[_Number]


class StoredFinding(TypedDict):
    """An open finding, as `floor operator` shows it."""

    id: str
    severity: str
    since: Moment
    evidence: list[StoredEvidence]


class StoredState(TypedDict):
    """State of the operator that outlives its process."""

    failed_in_a_row: NotRequired[Count]


class StoredModelBooks(TypedDict):
    """Books of the language model: sums, beside the times of the last questions."""

    asked_at: NotRequired[list[Moment]]
    calls: NotRequired[Count]
    tokens_in: NotRequired[float]
    tokens_out: NotRequired[float]
    seconds: NotRequired[float]
    joules: NotRequired[float]
    usd: NotRequired[float]
    failures: NotRequired[float]
    changed: NotRequired[float]
    same: NotRequired[float]
    abstained: NotRequired[float]


FINDINGS = Key("operator findings", list[StoredFinding], [])
STATE = Key("operator", StoredState, {})
MODEL_BOOKS = Key("operator llm", StoredModelBooks, {})
