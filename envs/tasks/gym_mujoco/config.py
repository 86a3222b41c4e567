"""Settings of the gymnasium tasks: the options of version 5 under their own names, with their defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.validation import require


@dataclass(kw_only=True)
class GymConfig(TaskConfig):
    """Settings that all eleven tasks have."""

    frame_skip: int = 5
    """Physics steps of a control step."""

    @property
    def decimation(self) -> int:
        """The same under the name that all tasks have for it."""
        return self.frame_skip

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(self.frame_skip >= 1, "task.frame_skip", self.frame_skip, "must be at least 1")
        named = self.robot == "default" or self.robot.startswith("file:")
        require(named, "robot", self.robot, f"{self.name} takes robot=default or robot=file:<path.xml>")
        noise = getattr(self, "reset_noise_scale", 0.0)
        require(0 <= noise < math.inf, "task.reset_noise_scale", noise, "must be finite and not negative")
        for key, value in vars(self).items():
            if key.endswith("_range"):
                require(value[0] < value[1], f"task.{key}", value, "give the lower bound, then a higher one")
            if key.endswith("_weight") or key == "healthy_reward":
                require(math.isfinite(value), f"task.{key}", value, "must be finite")


@dataclass(kw_only=True)
class RunnerConfig(GymConfig):
    """A robot that is paid for its velocity along x."""

    forward_reward_weight: float = 1.0
    """Reward for each m/s along x [s/m]."""
    ctrl_cost_weight: float = 0.1
    """Cost of the sum of the squared actions [-]."""
    reset_noise_scale: float = 0.1
    """Half-width, or standard deviation, of the initial positions and velocities [m, rad, m/s, rad/s]."""
    exclude_current_positions_from_observation: bool = True
    """Leave the robot's place out of the observation: x, or x and y."""


@dataclass(kw_only=True)
class HalfCheetahConfig(RunnerConfig):
    """Run with a planar cheetah of six joints."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.runners:HalfCheetah"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 17}, actions="6", control_hz=20.0)
    name: str = "gym/half_cheetah"
    id: str = "factory/HalfCheetah-v5"
    return_threshold: float | None = 4800.0


@dataclass(kw_only=True)
class SwimmerConfig(RunnerConfig):
    """Swim with three links in a plane."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.runners:Swimmer"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 8}, actions="2", control_hz=25.0)
    name: str = "gym/swimmer"
    id: str = "factory/Swimmer-v5"
    return_threshold: float | None = 360.0
    frame_skip: int = 4
    ctrl_cost_weight: float = 1e-4


@dataclass(kw_only=True)
class WalkingConfig(RunnerConfig):
    """A runner that must stay up."""

    healthy_reward: float = 1.0
    """Reward of every control step in which the robot is healthy [-]."""
    terminate_when_unhealthy: bool = True
    """End the episode when the robot is not healthy."""
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    """Heights of the torso that count as healthy [m]."""


@dataclass(kw_only=True)
class HopperConfig(WalkingConfig):
    """Hop forward on one leg in a plane."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.runners:Hopper"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 11}, actions="3", control_hz=125.0)
    name: str = "gym/hopper"
    id: str = "factory/Hopper-v5"
    return_threshold: float | None = 3800.0
    frame_skip: int = 4
    ctrl_cost_weight: float = 1e-3
    reset_noise_scale: float = 5e-3
    healthy_z_range: tuple[float, float] = (0.7, math.inf)
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    """Values of all other positions and velocities that count as healthy [m, rad, m/s, rad/s]."""
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    """Pitch of the torso that counts as healthy [rad]."""


@dataclass(kw_only=True)
class Walker2dConfig(WalkingConfig):
    """Walk on two legs in a plane."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.runners:Walker2d"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 17}, actions="6", control_hz=125.0)
    name: str = "gym/walker2d"
    id: str = "factory/Walker2d-v5"
    frame_skip: int = 4
    ctrl_cost_weight: float = 1e-3
    reset_noise_scale: float = 5e-3
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    """Pitch of the torso that counts as healthy [rad]."""


@dataclass(kw_only=True)
class AntConfig(WalkingConfig):
    """Walk on four legs."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.runners:Ant"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        robots="default, file:<path.xml>", observations={"policy": 105}, actions="8", control_hz=20.0
    )
    name: str = "gym/ant"
    id: str = "factory/Ant-v5"
    return_threshold: float | None = 6000.0
    ctrl_cost_weight: float = 0.5
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_cost_weight: float = 5e-4
    """Cost of the sum of the squared contact forces [1/N^2, 1/(N m)^2]."""
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    """Range that contact forces and torques are clipped to [N, N m]."""
    main_body: int | str = 1
    """Body, by number or name, whose velocity is paid for."""
    include_cfrc_ext_in_observation: bool = True
    """Observe the clipped contact forces and torques of every body."""


@dataclass(kw_only=True)
class HumanoidBodyConfig(GymConfig):
    """Optional observations of both humanoids."""

    include_cinert_in_observation: bool = True
    """Observe the inertia of every body about the centre of mass."""
    include_cvel_in_observation: bool = True
    """Observe the velocity of every body about the centre of mass."""
    include_qfrc_actuator_in_observation: bool = True
    """Observe the actuators' torques on the joints."""
    include_cfrc_ext_in_observation: bool = True
    """Observe the contact forces and torques of every body."""


@dataclass(kw_only=True)
class HumanoidConfig(HumanoidBodyConfig, WalkingConfig):
    """Walk on two legs."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.humanoids:Humanoid"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 348}, actions="17", control_hz=1 / 0.015
    )
    name: str = "gym/humanoid"
    id: str = "factory/Humanoid-v5"
    forward_reward_weight: float = 1.25
    reset_noise_scale: float = 1e-2
    healthy_reward: float = 5.0
    healthy_z_range: tuple[float, float] = (1.0, 2.0)
    contact_cost_weight: float = 5e-7
    """Cost of the sum of the squared contact forces and torques [1/N^2, 1/(N m)^2]."""
    contact_cost_range: tuple[float, float] = (-math.inf, 10.0)
    """Range that the contact cost is clipped to [-]."""


@dataclass(kw_only=True)
class HumanoidStandupConfig(HumanoidBodyConfig):
    """Get up from lying on the back."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.humanoids:HumanoidStandup"
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": 348}, actions="17", control_hz=1 / 0.015
    )
    name: str = "gym/humanoid_standup"
    id: str = "factory/HumanoidStandup-v5"
    uph_cost_weight: float = 1.0
    """Weight of the torso's height; gymnasium 1.4 takes it and ignores it, and so does this task [-]."""
    ctrl_cost_weight: float = 0.1
    """Cost of the sum of the squared actions [-]."""
    impact_cost_weight: float = 0.5e-6
    """Cost of the sum of the squared contact forces and torques [1/N^2, 1/(N m)^2]."""
    impact_cost_range: tuple[float, float] = (-math.inf, 10.0)
    """Range that the impact cost is clipped to [-]."""
    reset_noise_scale: float = 1e-2
    """Half-width of the initial positions and velocities [m, rad, m/s, rad/s]."""
    exclude_current_positions_from_observation: bool = True
    """Leave x and y of the torso out of the observation."""


@dataclass(kw_only=True)
class InvertedPendulumConfig(GymConfig):
    """Balance a pole on a cart."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.pendulums:InvertedPendulum"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 4}, actions="1", control_hz=25.0)
    name: str = "gym/inverted_pendulum"
    id: str = "factory/InvertedPendulum-v5"
    return_threshold: float | None = 950.0
    frame_skip: int = 2
    reset_noise_scale: float = 0.01
    """Half-width of the initial positions and velocities [m, rad, m/s, rad/s]."""


@dataclass(kw_only=True)
class InvertedDoublePendulumConfig(GymConfig):
    """Balance two poles, one on the other, on a cart."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.pendulums:InvertedDoublePendulum"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 9}, actions="1", control_hz=20.0)
    name: str = "gym/inverted_double_pendulum"
    id: str = "factory/InvertedDoublePendulum-v5"
    return_threshold: float | None = 9100.0
    reset_noise_scale: float = 0.1
    """Half-width of the initial positions and standard deviation of the velocities [m, rad, m/s, rad/s]."""
    healthy_reward: float = 10.0
    """Reward of every control step in which the poles stand [-]."""


@dataclass(kw_only=True)
class ReacherConfig(GymConfig):
    """Reach a target in the plane with two joints."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.arms:Reacher"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 10}, actions="2", control_hz=50.0)
    name: str = "gym/reacher"
    id: str = "factory/Reacher-v5"
    max_episode_steps: int = 50
    return_threshold: float | None = -3.75
    frame_skip: int = 2
    reward_dist_weight: float = 1.0
    """Cost of the fingertip's distance from the target [1/m]."""
    reward_control_weight: float = 1.0
    """Cost of the sum of the squared actions [-]."""


@dataclass(kw_only=True)
class PusherConfig(GymConfig):
    """Push an object to a goal with an arm of seven joints."""

    env: ClassVar[str] = "factory.envs.tasks.gym_mujoco.arms:Pusher"
    facts: ClassVar[TaskFacts | None] = TaskFacts(observations={"policy": 23}, actions="7", control_hz=20.0)
    name: str = "gym/pusher"
    id: str = "factory/Pusher-v5"
    max_episode_steps: int = 100
    return_threshold: float | None = 0.0
    reward_near_weight: float = 0.5
    """Cost of the fingertip's distance from the object [1/m]."""
    reward_dist_weight: float = 1.0
    """Cost of the object's distance from the goal [1/m]."""
    reward_control_weight: float = 0.1
    """Cost of the sum of the squared actions [1/(N m)^2]."""


GYM_TASKS: tuple[type[GymConfig], ...] = (
    AntConfig,
    HalfCheetahConfig,
    HopperConfig,
    HumanoidConfig,
    HumanoidStandupConfig,
    InvertedDoublePendulumConfig,
    InvertedPendulumConfig,
    PusherConfig,
    ReacherConfig,
    SwimmerConfig,
    Walker2dConfig,
)
"""The configuration of every task."""
