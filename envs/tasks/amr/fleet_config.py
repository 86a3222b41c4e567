"""Settings of a fleet of mobile robots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.envs.tasks.amr.config import AmrRewards
from factory.validation import require

MAP_SETS = ("train", "test")
"""Sets of maps; no map is in both."""
_MOST_ROBOTS = 12
_MOST_MAPS = 1024


@dataclass(kw_only=True)
class AmrFleetConfig(TaskConfig):
    """Drive between stations of a hall with shelves, along a given route, among other robots."""

    env: ClassVar[str] = "factory.envs.tasks.amr.fleet:AmrFleet"
    engines: ClassVar[tuple[str, ...]] = ("none",)
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 136, "critic": 99}, actions="2", control_hz=10.0
    )
    eval_episodes: ClassVar[int] = 1024
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 2
    baselines: ClassVar[dict[str, str]] = {
        "stand": "factory.envs.tasks.amr.controllers:StandStill",
        "route": "factory.envs.tasks.amr.controllers:TurnToGoal",
        "dwa": "factory.envs.tasks.amr.controllers:DynamicWindow",
    }
    name: str = "amr_fleet"
    id: str = "factory/AmrFleet-v0"
    max_episode_steps: int = 400
    agents_per_world: int = 8
    """Robots of a hall."""
    maps: str = "train"
    """Set of halls: train or test."""
    num_maps: int = 16
    """Number of halls; world w has hall w modulo this number."""
    rewards: AmrRewards = field(default_factory=AmrRewards)
    """Weights of the reward terms."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(self.robot == "default", "robot", self.robot, "amr_fleet has one robot; use robot=default")
        require(self.maps in MAP_SETS, "task.maps", self.maps, f"choose one of {', '.join(MAP_SETS)}")
        for key, high in (("agents_per_world", _MOST_ROBOTS), ("num_maps", _MOST_MAPS)):
            value = getattr(self, key)
            require(1 <= value <= high, f"task.{key}", value, f"must be in [1, {high}]")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the keywords for evaluations and videos, in the test halls after training."""
        return self.env_kwargs() | {"maps": "test"}
