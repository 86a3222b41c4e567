"""Settings of the quadruped velocity task."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.validation import require

_LONGEST_TIMESTEP_S = 0.1
"""Longest time step of the engine [s]; contacts need a hundredth of a second or less."""


@dataclass(kw_only=True)
class QuadrupedRewards:
    """Weights of the reward terms; the sum is multiplied by the control step, so they are rates [1/s]."""

    linear_velocity: float = 2.0
    """Reward for the commanded planar velocity."""
    angular_velocity: float = 0.75
    """Reward for the commanded yaw rate."""
    feet_phase: float = 0.3
    """Reward for feet that follow the gait."""
    vertical: float = -0.4
    """Cost of heave, roll rate and pitch rate."""
    tilt: float = -2.0
    """Cost of a trunk that is not level."""
    height: float = -60.0
    """Cost of a trunk above or below its home height."""
    action_rate: float = -0.03
    """Cost of actions that jump."""
    hips: float = -1.0
    """Cost of hip abductions away from home."""
    fall: float = -20.0
    """Applied for the one control step in which the robot falls."""
    tracking_sigma: float = 0.25
    """Width of the linear velocity kernel [m^2/s^2]."""
    angular_sigma: float = 0.25
    """Width of the yaw rate kernel [rad^2/s^2]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for key in ("tracking_sigma", "angular_sigma"):
            require(getattr(self, key) > 0, f"task.rewards.{key}", getattr(self, key), "must be positive")


@dataclass(kw_only=True)
class QuadrupedRandomization:
    """Domain randomization: values that differ between environments and episodes."""

    friction: tuple[float, float] = (0.5, 1.25)
    """Range of the feet's sliding friction [-]."""
    payload_kg: tuple[float, float] = (-0.5, 1.5)
    """Range of the mass added to the trunk [kg]."""
    motor_strength: tuple[float, float] = (0.9, 1.1)
    """Range of the factor on every joint's position gain [-]."""
    push_m_per_s: float = 0.4
    """Largest planar velocity change of a push, per axis [m/s]."""
    push_interval_s: float = 8.0
    """Mean time between pushes of a world [s]."""
    observation_noise: float = 1.0
    """Factor on the sensor noise of the policy's observations [-]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for key in ("friction", "payload_kg", "motor_strength"):
            ends = tuple(getattr(self, key))
            ordered = len(ends) == 2 and -math.inf < ends[0] <= ends[1] < math.inf
            require(ordered, f"task.randomization.{key}", list(ends), "give a finite lower and upper end")
        for key in ("push_m_per_s", "observation_noise"):
            require(
                getattr(self, key) >= 0,
                f"task.randomization.{key}",
                getattr(self, key),
                "must not be negative",
            )
        require(
            self.push_interval_s > 0,
            "task.randomization.push_interval_s",
            self.push_interval_s,
            "must be positive",
        )


@dataclass(kw_only=True)
class QuadrupedVelocityConfig(TaskConfig):
    """Follow a planar velocity and a yaw rate on flat ground."""

    env: ClassVar[str] = "factory.envs.tasks.quadruped_velocity:QuadrupedVelocity"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        robots="default, menagerie:<name>, file:<path.xml>",
        observations={"policy": 47, "critic": 58},
        actions="12",
        control_hz=50.0,
    )
    name: str = "quadruped_velocity"
    id: str = "factory/QuadrupedVelocity-v0"
    max_episode_steps: int = 1000
    timestep_s: float = 0.004
    """Length of a physics step [s]."""
    decimation: int = 5
    """Physics steps of a control step."""
    command_m_per_s: float = 1.0
    """Commanded forward and lateral velocities lie in [-this, this] [m/s]."""
    command_rad_per_s: float = 1.0
    """Commanded yaw rates lie in [-this, this] [rad/s]."""
    command_interval_s: float = 10.0
    """Mean time for which a command holds [s]."""
    command_slew_per_s: float = 2.5
    """Rate at which a command moves to its new value [m/s^2, rad/s^2]."""
    standing_share: float = 0.1
    """Share of commands that tell the robot to stand [-]."""
    gait_hz: float = 2.5
    """Strides per second of the trot [Hz]."""
    swing_height_m: float = 0.09
    """Height of a foot in mid swing [m]."""
    rewards: QuadrupedRewards = field(default_factory=QuadrupedRewards)
    """Weights and widths of the reward terms."""
    randomization: QuadrupedRandomization = field(default_factory=QuadrupedRandomization)
    """Ranges of the domain randomization."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        is_step = 0 < self.timestep_s <= _LONGEST_TIMESTEP_S
        remedy = f"must be positive and at most {_LONGEST_TIMESTEP_S:g}"
        require(is_step, "task.timestep_s", self.timestep_s, remedy)
        require(self.decimation >= 1, "task.decimation", self.decimation, "must be at least 1")
        require(self.command_m_per_s > 0, "task.command_m_per_s", self.command_m_per_s, "must be positive")
        require(self.command_rad_per_s >= 0, "task.command_rad_per_s", self.command_rad_per_s, "must be >= 0")
        require(
            self.command_interval_s > 0,
            "task.command_interval_s",
            self.command_interval_s,
            "must be positive",
        )
        require(
            0 <= self.standing_share <= 1, "task.standing_share", self.standing_share, "must be in [0, 1]"
        )
        require(self.gait_hz > 0, "task.gait_hz", self.gait_hz, "must be positive")
        require(
            self.command_slew_per_s > 0,
            "task.command_slew_per_s",
            self.command_slew_per_s,
            "must be positive",
        )
        require(
            0 < self.swing_height_m < 0.2, "task.swing_height_m", self.swing_height_m, "must be in (0, 0.2)"
        )
