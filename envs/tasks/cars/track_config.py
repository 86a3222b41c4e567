"""Settings of the race track task."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.envs.terms.ranges import require_conditions
from factory.validation import require

SPLITS = ("train", "test")
"""Sets of tracks; no track is in both."""
_MOST_TRACKS = 4096
LONGEST_LATENCY_S = 0.1
"""Two control steps, as many as the car remembers actions of."""


@dataclass(kw_only=True)
class TrackRewards:
    """Weights of the reward terms, each for a control step."""

    progress: float = 1.0
    """Reward of a metre along the centre line [1/m]."""
    lap: float = 10.0
    """Reward of a finished lap, a third of what driving on is worth at the discount of the preset."""
    off_track: float = -60.0
    """Applied once, when the car leaves the track or spins."""
    action_rate: float = -0.02
    """Cost of actions that jump."""


@dataclass(kw_only=True)
class TrackRandomization:
    """Domain randomization: ranges of values that differ between episodes."""

    friction: tuple[float, float] = (0.6, 1.1)
    """Friction of tyres and road [-]."""
    stiffness: tuple[float, float] = (0.8, 1.2)
    """Factor on the tyres' cornering stiffness [-]."""
    steering_lag_s: tuple[float, float] = (0.03, 0.1)
    """Time constant of the steering [s]."""
    steering_offset_rad: tuple[float, float] = (-0.02, 0.02)
    """Angle of the wheels at a steering command of zero [rad]."""
    latency_s: tuple[float, float] = (0.02, 0.06)
    """Time from an observation until the car obeys the action that answers it [s]."""
    observation_noise: float = 1.0
    """Factor on the sensor noise of the policy's observations [-]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        lowest = {
            "friction": 0.1,
            "stiffness": 0.1,
            # The steering lag is a divisor in the car's equations.
            "steering_lag_s": 0.01,
            "steering_offset_rad": -math.inf,
            "latency_s": 0.0,
        }
        require_conditions(self, lowest=lowest, longest_latency_s=LONGEST_LATENCY_S)


@dataclass(kw_only=True)
class CarTrackConfig(TaskConfig):
    """Drive a fast lap on a track that was never seen."""

    env: ClassVar[str] = "factory.envs.tasks.cars.track:CarTrack"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 36, "critic": 43}, actions="2", control_hz=20.0
    )
    engines: ClassVar[tuple[str, ...]] = ("none",)
    eval_episodes: ClassVar[int] = 1024
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 4
    baselines: ClassVar[dict[str, str]] = {
        "pure_pursuit": "factory.envs.tasks.cars.track_pursuit:PurePursuit"
    }
    name: str = "car_track"
    id: str = "factory/CarTrack-v0"
    max_episode_steps: int = 600
    split: str = "train"
    """Set of tracks: train or test. Evaluations and videos always take `test`."""
    num_tracks: int = 64
    """Tracks of the set."""
    rewards: TrackRewards = field(default_factory=TrackRewards)
    """Weights of the reward terms."""
    randomization: TrackRandomization = field(default_factory=TrackRandomization)
    """Ranges of the domain randomization."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        self._require_default_robot()
        require(self.split in SPLITS, "task.split", self.split, f"choose one of {', '.join(SPLITS)}")
        in_range = 1 <= self.num_tracks <= _MOST_TRACKS
        require(in_range, "task.num_tracks", self.num_tracks, f"must be in [1, {_MOST_TRACKS}]")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the constructor's keywords with the 64 tracks that no training meets."""
        return self.env_kwargs() | {"split": "test", "num_tracks": 64}
