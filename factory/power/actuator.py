"""The interface of an actuator: a setting of the process or of a GPU that a profile may change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from factory.power.config import ProfileConfig


class Refused(RuntimeError):  # noqa: N818  an answer rather than an error
    """The setting cannot be changed here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A setting that was changed: the value asked for, and the one in force as read back."""

    actuator: str
    asked: str
    enforced: str


class Actuator(ABC):
    """Changes one setting and puts it back."""

    name: ClassVar[str]

    @abstractmethod
    def available(self) -> bool:
        """Tell whether the machine has the setting; only `apply` finds out whether it may be changed."""

    @classmethod
    @abstractmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether a profile asks for this setting."""

    @abstractmethod
    def apply(self, cfg: ProfileConfig) -> Applied:
        """Change the setting and read back what is in force.

        Raises:
            Refused: it cannot be changed here; nothing was changed.
        """

    @abstractmethod
    def restore(self) -> None:
        """Put back the setting as it was before `apply`.

        Raises:
            Refused: it could not be put back.
        """
