"""Settings of the docking of a mobile robot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.validation import require

SET_NAMES = ("train", "validation", "test")
"""Sets of episodes; `dock_table.SETS` has their recipes."""


@dataclass(kw_only=True)
class DockRewards:
    """Weights of the reward terms."""

    approach: float = 2.0
    """Reward per metre by which the shortest path to the dock got shorter [1/m]."""
    precision: float = 2.0
    """Reward of the precision that a step gains; from far away to the docked pose it sums to twice this."""
    docked: float = 5.0
    """Applied once, when the robot stands in the dock."""
    collision: float = -3.0
    """Applied in the step in which the robot touches something."""
    turning: float = -0.01
    """Cost of changes of the commanded speeds."""
    time: float = -0.01
    """Cost of every step."""


@dataclass(kw_only=True)
class DockSensor:
    """Errors of the sensor that sees the dock. The constant ones are drawn for every episode."""

    noise_m: float = 0.004
    """Standard deviation of the dock's place at the dock [m]."""
    noise_per_m: float = 0.01
    """Growth of that standard deviation with the distance [-]."""
    noise_rad: float = 0.01
    """Standard deviation of the dock's direction [rad]."""
    bias_m: float = 0.005
    """Largest constant error of the place in each direction [m]."""
    bias_rad: float = 0.01
    """Largest constant error of the direction [rad]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for key, value in vars(self).items():
            require(0 <= value <= 1, f"task.sensor.{key}", value, "must be in [0, 1]")


@dataclass(kw_only=True)
class AmrDockConfig(TaskConfig):
    """Drive into a dock between two guides and stop there, to the centimetre and the degree."""

    env: ClassVar[str] = "factory.envs.tasks.amr.dock:AmrDock"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 75, "critic": 82}, actions="2", control_hz=10.0
    )
    eval_episodes: ClassVar[int] = 1024
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 4
    baselines: ClassVar[dict[str, str]] = {
        "axis": "factory.envs.tasks.amr.dock_controllers:AlongAxis",
        "map": "factory.envs.tasks.amr.dock_controllers:AlongPath",
    }
    decimation: ClassVar[int] = 1
    """Physics steps of a control step."""
    name: str = "amr_dock"
    id: str = "factory/AmrDock-v0"
    max_episode_steps: int = 400
    episodes: str = "train"
    """Set of episodes: train, validation or test."""
    curriculum_share: float = 0.65
    """Share of the starts of `train` that lie on the way into the dock; the other sets have none [-]."""
    widest_tolerance: float = 10.0
    """Factor on the tolerances of success when training begins; each world narrows its own as it docks. Sets
    other than `train` always have 1 [-]."""
    rewards: DockRewards = field(default_factory=DockRewards)
    """Weights of the reward terms."""
    sensor: DockSensor = field(default_factory=DockSensor)
    """Errors of the sensor that sees the dock."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(self.robot == "default", "robot", self.robot, "amr_dock has one robot; use robot=default")
        share = self.curriculum_share
        require(0 <= share <= 1, "task.curriculum_share", share, "must be in [0, 1]")
        widest = self.widest_tolerance
        require(1 <= widest <= 20, "task.widest_tolerance", widest, "must be in [1, 20]")
        choices = ", ".join(SET_NAMES)
        require(self.episodes in SET_NAMES, "task.episodes", self.episodes, f"choose one of {choices}")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the constructor's keywords for evaluations and videos: the test episodes after training."""
        values = self.env_kwargs()
        if self.episodes == "train":
            values["episodes"] = "test"
        return values
