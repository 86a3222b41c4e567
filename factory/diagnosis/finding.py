"""One thing that was looked at: how it stands, in a plain sentence, and what would change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a thing stands."""

    OK = "ok"
    LIMITED = "limited"
    """Works, with less than there could be."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding."""

    section: str
    name: str
    status: Status
    text: str
    remedy: str = ""
    """Command or change that helps; empty if there is nothing to do."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same as plain values, for programs."""


def look(section: str, check: Callable[[], Sequence[Finding]]) -> list[Finding]:
    """Return what `check` finds; a check that fails is a finding of its own, for the rest still counts."""
    try:
        return list(check())
    except Exception as error:  # a broken driver or library is what the doctor is for
        text = f"looking failed: {type(error).__name__}: {error}"
        return [Finding(section=section, name="check", status=Status.MISSING, text=text)]
