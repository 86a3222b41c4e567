"""The protocol of an energy source, and its two ways of failing."""

from __future__ import annotations

from typing import Protocol

from factory.energy.types import Capability, Reading


class SourceUnavailable(Exception):  # noqa: N818 - it names a state of the machine, not a mistake
    """Say why a source cannot be used here, and what would change that."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class SourceError(Exception):
    """Say that a source that had worked could not be read."""


class EnergySource(Protocol):
    """A gauge of cumulative energy.

    Sources are not thread-safe: the meter reads them under its lock.
    """

    name: str

    def open(self) -> Capability:
        """Probe the hardware and set the zero of the cumulative energy; may be called again to re-baseline.

        Raises:
            SourceUnavailable: With the reason and the remedy.
        """
        ...

    def read(self) -> Reading:
        """Return the cumulative energy since `open`.

        Raises:
            SourceError: When the hardware does not answer. What was counted before stays valid.
        """
        ...

    def close(self) -> None:
        """Release the hardware; safe to call twice."""
        ...
