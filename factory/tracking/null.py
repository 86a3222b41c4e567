"""No tracking."""

from __future__ import annotations

from collections.abc import Mapping

from factory.tracking.base import Tracker


class NullTracker(Tracker):
    """Write nothing anywhere."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""
