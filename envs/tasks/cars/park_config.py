"""Settings of the parking task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.envs.terms.ranges import require_conditions
from factory.validation import require

SPLITS = ("train", "test")
"""Sets of parking lots; no lot is in both."""
LONGEST_LATENCY_S = 0.2
"""Two control steps, as many as the car remembers actions of."""
_MOST_LOTS = 2**20


@dataclass(kw_only=True)
class ParkRewards:
    """Weights of the reward terms, each for a control step."""

    approach: float = 1.0
    """Reward of a metre by which the way to the goal gets shorter in the tightest lot [1/m]."""
    parked: float = 10.0
    """Applied once, when the car stands in the slot."""
    contact: float = -10.0
    """Applied once, when the car touches something."""
    turnaround: float = -0.1
    """Cost of a change between forward and backward."""
    time: float = -0.01
    """Cost of every step."""
    action_rate: float = -0.01
    """Cost of actions that jump."""


@dataclass(kw_only=True)
class ParkRandomization:
    """Domain randomization: ranges of values that differ between episodes."""

    steering_lag_s: tuple[float, float] = (0.05, 0.2)
    """Time constant of the steering [s]."""
    latency_s: tuple[float, float] = (0.0, 0.15)
    """Time from an observation until the car obeys the action that answers it [s]."""
    observation_noise: float = 1.0
    """Factor on the sensor noise of the policy's observations [-]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        lowest = {"steering_lag_s": 0.0, "latency_s": 0.0}
        require_conditions(self, lowest=lowest, longest_latency_s=LONGEST_LATENCY_S)


@dataclass(kw_only=True)
class CarParkConfig(TaskConfig):
    """Park a car nose first between others, without touching anything."""

    env: ClassVar[str] = "factory.envs.tasks.cars.park:CarPark"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 28, "critic": 31}, actions="2", control_hz=10.0
    )
    engines: ClassVar[tuple[str, ...]] = ("none",)
    eval_episodes: ClassVar[int] = 1024
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 4
    baselines: ClassVar[dict[str, str]] = {"planner": "factory.envs.tasks.cars.park_planner:Planner"}
    name: str = "car_park"
    id: str = "factory/CarPark-v0"
    max_episode_steps: int = 400
    split: str = "train"
    """Set of lots: train or test. Evaluations and videos always take `test`."""
    num_lots: int = 16384
    """Lots of the set."""
    curriculum_share: float = 0.65
    """Share of the starts that lie on the way into the slot; evaluations have none [-]."""
    rewards: ParkRewards = field(default_factory=ParkRewards)
    """Weights of the reward terms."""
    randomization: ParkRandomization = field(default_factory=ParkRandomization)
    """Ranges of the domain randomization."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        self._require_default_robot()
        require(self.split in SPLITS, "task.split", self.split, f"choose one of {', '.join(SPLITS)}")
        in_range = 1 <= self.num_lots <= _MOST_LOTS
        require(in_range, "task.num_lots", self.num_lots, f"must be in [1, {_MOST_LOTS}]")
        share = self.curriculum_share
        require(0 <= share <= 1, "task.curriculum_share", share, "must be in [0, 1]")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the constructor's keywords with 1024 lots that no training meets, started in the aisle."""
        return self.env_kwargs() | {"split": "test", "num_lots": 1024, "curriculum_share": 0.0}
