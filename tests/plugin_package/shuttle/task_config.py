"""Settings of the shuttle task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from factory.envs.core.task import TaskConfig
from factory.validation import require


@dataclass(kw_only=True)
class ShuttleConfig(TaskConfig):
    """Go to a place that is shown only at the start of an episode."""

    env: ClassVar[str] = "shuttle.task:Shuttle"
    decimation: ClassVar[int] = 5
    """Physics steps of a control step."""
    name: str = "shuttle"
    id: str = "shuttle/Shuttle-v0"
    max_episode_steps: int = 40
    shown_steps: int = 3
    """Control steps for which the place is shown [control steps]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(self.shown_steps >= 1, "task.shown_steps", self.shown_steps, "must be at least 1")
