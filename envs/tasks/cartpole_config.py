"""Settings of the cart-pole swing-up task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.validation import require


@dataclass(kw_only=True)
class CartpoleSwingupConfig(TaskConfig):
    """Swing a hanging pole up and keep it there, near the middle of the rail."""

    env: ClassVar[str] = "factory.envs.tasks.cartpole:CartpoleSwingup"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 5}, actions="1", control_hz=50.0)
    name: str = "cartpole_swingup"
    id: str = "factory/CartpoleSwingup-v0"
    max_episode_steps: int = 1000
    return_threshold: float | None = 900.0
    decimation: ClassVar[int] = 2
    """Physics steps of a control step."""
    reset_noise: float = 0.1
    """Standard deviation of the start about hanging at rest [m, rad, m/s, rad/s]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        self._require_default_robot()
        require(self.reset_noise >= 0, "task.reset_noise", self.reset_noise, "must not be negative")
