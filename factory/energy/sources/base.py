"""The interface of an energy source, and its two ways of failing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from factory.energy.types import Capability, Reading

if TYPE_CHECKING:
    from factory.energy.config import EnergyConfig


class SourceUnavailable(Exception):  # noqa: N818 - it names a state of the machine, not a mistake
    """The source cannot be used on this machine; carries the reason and the remedy."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class SourceError(Exception):
    """A source that worked before could not be read."""


class EnergySource(ABC):
    """A source of cumulative energy, e.g. a hardware counter.

    To add one, subclass this in a file of its own and register it with `register_energy_source`.
    Sources need not be thread-safe: the meter reads them under its lock.
    """

    name: str
    """Value of `energy.source` that selects it."""
    title: str
    """Name in the doctor's report, e.g. `RAPL`."""
    components: tuple[str, ...]
    """Components it can report; each becomes a metric `energy/<component>_j`."""
    options: ClassVar[type | None] = None
    """Keyword-only dataclass of its own settings, given as `energy.options.<name>.<key>`; None if it has
    none.
    """
    reads_this_machine: ClassVar[bool] = True
    """False for recordings, which the doctor has no reason to list."""

    @classmethod
    @abstractmethod
    def from_config(cls, cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Self:
        """Build the source for a run; nothing is probed before `open`.

        Args:
            cfg: Settings; `cfg.options_of(cls)` returns the source's own.
            device: Where the policy runs: `cpu`, `cuda` or `cuda:<index>`.
            environ: Environment variables of the process.
        """

    @abstractmethod
    def open(self) -> Capability:
        """Probe the hardware and set the zero of the cumulative energy; calling it again sets a new zero.

        Raises:
            SourceUnavailable: With the reason and the remedy.
        """

    @abstractmethod
    def read(self) -> Reading:
        """Return the cumulative energy since `open`.

        Raises:
            SourceError: When the hardware does not answer. Energy counted before stays valid.
        """

    def devices_j(self) -> dict[str, float]:
        """Return the energy since `open` of each device that a job can have for itself, by its UUID [J]."""
        return {}

    def position(self) -> dict[str, float]:
        """Return the counts of the last read, from which a later process can go on; empty if it cannot."""
        return {}

    def seek(self, position: Mapping[str, float]) -> None:  # noqa: B027 - most sources start from now
        """Go on from the position of an earlier process, so that the next read adds the energy since then.

        Call it after `open`, on the same machine and since the same boot only.
        """

    def close(self) -> None:  # noqa: B027 - most sources hold nothing open
        """Release the hardware; safe to call twice."""
