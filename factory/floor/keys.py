"""Keys under which a floor's store keeps plain values, each with the type of what may lie there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """Key of the store; `Store.get` refuses what is not of its type."""

    name: str
    hint: Any
    """Type of the value, see `factory.runtime.decoding`."""
    default: Any = None
    """Value where nothing lies there."""

    def of(self, part: object) -> Key:
        """Return the key of one thing, such as a line, among those that have such a value."""
        return replace(self, name=self.name.format(part))
