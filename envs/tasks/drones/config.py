"""Settings of both drone tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.envs.terms.ranges import require_conditions
from factory.validation import require

ACTIONS = ("rates", "rotors")
"""Commands: thrust and body rates, which a rate controller on board follows, or the thrust of every rotor."""
WAYPOINT_REACH_M = 0.3
"""Distance at which a waypoint is passed."""
GATE_INNER_M = 0.4
"""Half width of a gate's opening."""
GATE_FRAME_M = 0.15
"""Width of the frame around the opening."""
LONGEST_LATENCY_S = 0.04
"""Two control steps, as many as the drone remembers actions of."""
_MOST_TARGETS = 32
_LEAST = {
    "mass": 0.1,
    "inertia": 0.1,
    "thrust": 0.1,
    "drag_per_s": 0.0,
    "motor_lag_s": 0.005,
    "wind_m_per_s": 0.0,
    "latency_s": 0.0,
}
"""Least lower end of every range."""


@dataclass(kw_only=True)
class DroneRewards:
    """Weights of the reward terms, each for a control step."""

    progress: float = 2.0
    """Reward of a metre nearer to the target [1/m]."""
    target: float = 2.0
    """Reward of a target, once it is passed."""
    failure: float = -12.0
    """Applied once, when the episode ends otherwise than by success or the time limit."""
    rates: float = -0.0005
    """Cost of the squared angular velocity [s^2/rad^2]."""
    action_rate: float = -0.005
    """Cost of actions that jump."""
    time: float = -0.02
    """Cost of every step."""


@dataclass(kw_only=True)
class GateRewards(DroneRewards):
    """Weights of the reward terms of a race: a gate is worth more than the way to it."""

    target: float = 10.0
    """Reward of a gate, once it is passed."""
    failure: float = -8.0
    """Applied once, when the episode ends otherwise than by success or the time limit."""
    pace_m_per_s: float = 3.5
    """Speed towards the gate beyond which progress counts against the drone [m/s]."""


@dataclass(kw_only=True)
class DroneRandomization:
    """Domain randomization: ranges of values that differ between episodes."""

    mass: tuple[float, float] = (0.8, 1.2)
    """Factor on the mass [-]."""
    inertia: tuple[float, float] = (0.8, 1.2)
    """Factor on the moments of inertia, beyond that on the mass [-]."""
    thrust: tuple[float, float] = (0.85, 1.15)
    """Factor on the thrust of all rotors [-]."""
    drag_per_s: tuple[float, float] = (0.3, 0.6)
    """Deceleration per unit of the airspeed across the rotors' axes [1/s]."""
    motor_lag_s: tuple[float, float] = (0.02, 0.05)
    """Time constant of the rotors' thrust [s]."""
    wind_m_per_s: tuple[float, float] = (0.0, 2.0)
    """Speed of the wind, which blows from anywhere in the horizontal plane [m/s]."""
    latency_s: tuple[float, float] = (0.01, 0.03)
    """Time from an observation until the drone obeys the action that answers it [s]."""
    observation_noise: float = 1.0
    """Factor on the sensor noise of the policy's observations [-]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require_conditions(self, lowest=_LEAST, longest_latency_s=LONGEST_LATENCY_S)


@dataclass(kw_only=True)
class DroneConfig(TaskConfig):
    """Settings that both drone tasks have."""

    engines: ClassVar[tuple[str, ...]] = ("none",)
    eval_episodes: ClassVar[int] = 1024
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 4
    baselines: ClassVar[dict[str, str]] = {"cascade": "factory.envs.tasks.drones.cascade:Cascade"}
    action: str = "rates"
    """Commands: `rates` (thrust and body rates) or `rotors` (thrust of every rotor)."""
    num_targets: int = 4
    """Waypoints or gates of an episode."""
    rewards: DroneRewards = field(default_factory=DroneRewards)
    """Weights of the reward terms."""
    randomization: DroneRandomization = field(default_factory=DroneRandomization)
    """Ranges of the domain randomization."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(self.robot == "default", "robot", self.robot, f"{self.name} has one drone; use robot=default")
        require(self.action in ACTIONS, "task.action", self.action, f"choose one of {', '.join(ACTIONS)}")
        in_range = 1 <= self.num_targets <= _MOST_TARGETS
        require(in_range, "task.num_targets", self.num_targets, f"must be in [1, {_MOST_TARGETS}]")


@dataclass(kw_only=True)
class DroneWaypointsConfig(DroneConfig):
    """Fly through points in the air, in order, as fast as possible."""

    env: ClassVar[str] = "factory.envs.tasks.drones.waypoints:DroneWaypoints"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 27, "critic": 38}, actions="4", control_hz=50.0
    )
    name: str = "drone_waypoints"
    id: str = "factory/DroneWaypoints-v0"
    max_episode_steps: int = 500


@dataclass(kw_only=True)
class DroneGatesConfig(DroneConfig):
    """Race through gates, in order, without touching a frame."""

    env: ClassVar[str] = "factory.envs.tasks.drones.gates:DroneGates"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 33, "critic": 47}, actions="4", control_hz=50.0
    )
    name: str = "drone_gates"
    id: str = "factory/DroneGates-v0"
    max_episode_steps: int = 750
    num_targets: int = 5
    rewards: GateRewards = field(default_factory=GateRewards)
    """Weights of the reward terms."""
    gate_error_m: float = 0.05
    """Largest error of a gate's place as the policy knows it, along each axis; drawn for each episode [m]."""
    widest_inner_m: float = 1.2
    """Half width of the openings when training begins; each world narrows its own as gates are passed.
    Evaluations always have 0.4 m [m]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        error_m = self.gate_error_m
        require(0 <= error_m <= 1, "task.gate_error_m", error_m, "must be in [0, 1]")
        widest_m = self.widest_inner_m
        in_range = GATE_INNER_M <= widest_m <= 2
        require(in_range, "task.widest_inner_m", widest_m, f"must be in [{GATE_INNER_M}, 2]")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the constructor's keywords without the curriculum: openings as wide as the task has them."""
        return self.env_kwargs() | {"widest_inner_m": GATE_INNER_M}
