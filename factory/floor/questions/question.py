"""A question, and the parameters that its query takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from factory.validation import require

_LONGEST_H = 100_000.0
_MOST_ROWS = 1000
_HIGHEST_LINE = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that engineers ask, and the query that answers it."""

    name: str
    text: str
    words: str
    """Other words that people use for it, besides those of name and text."""
    query: str
    """SQL with the named parameters of `answer.bindings`."""
    parameters: tuple[str, ...] = ("hours", "rows")
    """Fields of `Parameters` that the query depends on."""
    table: str = "line"
    """Table that it reads; the operator makes its own when it first watches a floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Values of the parameters."""

    hours: float = 8.0
    """Length of the time that the answer is about, until now [h]."""
    rows: int = 50
    """Most rows of the answer."""
    line: int | None = None
    """Id of a line."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(0.0 < self.hours <= _LONGEST_H, "hours", self.hours, "must be a time > 0 [h], such as 8")
        require(1 <= self.rows <= _MOST_ROWS, "rows", self.rows, f"must be in [1, {_MOST_ROWS}]")
        if self.line is not None:
            require(1 <= self.line < _HIGHEST_LINE, "line", self.line, "must be an id that `status` lists")


KEYS = ("hours", "rows", "line")


def taken(question: Question, before: Parameters, given: Mapping[str, object]) -> Parameters:
    """Return the parameters of a question with values that came from outside.

    Raises:
        ValueError: the question has no such parameter, or a value is wrong.
    """
    after = changed(before, given)
    for key, value in given.items():
        takes = f"{question.name} takes {', '.join(question.parameters)} only"
        require(key in question.parameters, key, value, takes)
    return after


def changed(before: Parameters, given: Mapping[str, object]) -> Parameters:
    """Return parameters with values that came from outside, as text or as JSON.

    Raises:
        ValueError: a key is unknown, or a value is no number or out of its range.
    """
    values: dict[str, float] = {}
    for key, value in given.items():
        require(key in KEYS, key, value, f"no such parameter; choose from {', '.join(KEYS)}")
        try:
            number = float(str(value))
        except ValueError:
            raise ValueError(f"{key}={value}: must be a number") from None
        if key != "hours":
            require(number.is_integer(), key, value, "must be a whole number")
            number = int(number)
        values[key] = number
    return replace(before, **values)  # type: ignore[arg-type]
