"""Settings of the navigation of a mobile robot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.validation import require

SET_NAMES = ("train", "validation", "test", "dense", "dynamic", "large", "noisy", "maze")
"""Sets of episodes; `table.SETS` has their recipes."""


@dataclass(kw_only=True)
class AmrRewards:
    """Weights of the reward terms."""

    progress: float = 1.0
    """Reward per metre by which the shortest path to the goal got shorter [1/m]."""
    goal: float = 5.0
    """Reward of reaching the goal."""
    collision: float = -6.0
    """Applied in the step in which the robot touches something."""
    nearness: float = -0.2
    """Cost of a step with less than 0.3 m of room around the robot."""
    turning: float = -0.02
    """Cost of changes of the commanded speeds."""
    time: float = -0.02
    """Cost of every step."""


@dataclass(kw_only=True)
class AmrNavigateConfig(TaskConfig):
    """Drive to a goal among shelves, walls and moving obstacles, with a lidar and no map."""

    env: ClassVar[str] = "factory.envs.tasks.amr.navigate:AmrNavigate"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 136, "critic": 99}, actions="2", control_hz=10.0
    )
    eval_episodes: ClassVar[int] = 1024
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 4
    baselines: ClassVar[dict[str, str]] = {
        "stand": "factory.envs.tasks.amr.controllers:StandStill",
        "turn": "factory.envs.tasks.amr.controllers:TurnToGoal",
        "dwa": "factory.envs.tasks.amr.controllers:DynamicWindow",
        "map": "factory.envs.tasks.amr.controllers:ShortestPath",
    }
    decimation: ClassVar[int] = 1
    """Physics steps of a control step."""
    name: str = "amr_navigate"
    id: str = "factory/AmrNavigate-v0"
    max_episode_steps: int = 400
    episodes: str = "train"
    """Set of episodes: train, validation, test, or one shifted from them."""
    rewards: AmrRewards = field(default_factory=AmrRewards)
    """Weights of the reward terms."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        self._require_default_robot()
        choices = ", ".join(SET_NAMES)
        require(self.episodes in SET_NAMES, "task.episodes", self.episodes, f"choose one of {choices}")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the constructor's keywords for evaluations and videos: the fixed validation episodes.

        Another set than `train` stays as it was asked for.
        """
        values = self.env_kwargs()
        if self.episodes == "train":
            values["episodes"] = "validation"
        return values
