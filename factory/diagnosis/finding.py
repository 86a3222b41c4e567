"""The result of one check: its status, a plain sentence and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Result of a check."""

    OK = "ok"
    LIMITED = "limited"
    """It works, but not as well as it could."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check, for the user and for programs."""

    section: str
    name: str
    status: Status
    text: str
    remedy: str = ""
    """Command or change that helps; empty if there is nothing to do."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same as plain values, for programs."""


def look(section: str, check: Callable[[], Sequence[Finding]]) -> list[Finding]:
    """Return the findings of `check`; a check that fails becomes a finding, so that the others still run."""
    try:
        return list(check())
    except Exception as error:  # a broken driver or library is what the doctor is for
        text = f"the check failed: {type(error).__name__}: {error}"
        return [Finding(section=section, name="check", status=Status.MISSING, text=text)]
