"""What every task's configuration has in common."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from factory.validation import require


@dataclass(kw_only=True)
class TaskConfig:
    """Configuration shared by all tasks; a subclass adds the task's own values."""

    env: ClassVar[str] = ""
    """Class of the environment, as `module:Class`; imported when the first environment is made."""
    eval_worlds: ClassVar[int] = 256
    """Most worlds an evaluation simulates together; the same for every run, so that all meet equal episodes."""
    example: ClassVar[tuple[str, ...]] = ()
    """What has to be given beside `task=<name>`, for tasks that are not complete without it."""
    name: str = ""
    """Name of the task, as in `task=<name>`; names run folders, MLflow experiments and models."""
    id: str = ""
    """Gymnasium id of the environment."""
    robot: str = "default"
    """`default`, or for tasks that take several robots `menagerie:<name>` or `file:<path.xml>`."""
    max_episode_steps: int = 1000
    """Control steps after which an episode is truncated [control steps]."""
    return_threshold: float | None = None
    """Mean training return at which the task counts as learned, for energy and time to threshold."""

    def __post_init__(self) -> None:
        """Take groups of settings as plain mappings, too; raise ValueError when a value is out of its range."""
        for entry in dataclasses.fields(self):
            value, group = getattr(self, entry.name), entry.default_factory
            if isinstance(value, dict) and dataclasses.is_dataclass(group):
                setattr(self, entry.name, group(**value))
        require(
            self.max_episode_steps >= 1,
            "task.max_episode_steps",
            self.max_episode_steps,
            "must be at least 1",
        )

    def env_kwargs(self) -> dict[str, Any]:
        """Return the keywords the environment's constructor takes."""
        return {
            k: v for k, v in dataclasses.asdict(self).items() if k not in ("name", "id", "return_threshold")
        }
