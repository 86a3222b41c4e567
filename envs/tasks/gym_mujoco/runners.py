"""Robots that run, hop, walk or swim along x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from factory.envs.tasks.gym_mujoco.base import ContactEnv, GymEnv
from factory.envs.tasks.gym_mujoco.config import (
    AntConfig,
    HalfCheetahConfig,
    HopperConfig,
    SwimmerConfig,
    Walker2dConfig,
)


class Runner(GymEnv):
    """A robot that is paid for its velocity along x and pays for its actions."""

    reward_terms: tuple[str, ...] = ("reward_forward", "reward_ctrl")
    axes: tuple[str, ...] = ("x",)

    def _setup(self) -> None:
        super()._setup()
        self._before = torch.zeros_like(self._tracked_position())
        self._terminates = getattr(self.cfg, "terminate_when_unhealthy", False)

    def _tracked_position(self) -> Tensor:
        """Return the place whose change is the velocity. Shape: (num_envs, len(axes)) float64 [m]."""
        return self._qpos[:, : len(self.axes)]

    def _healthy(self) -> Tensor:
        """Return where the robot is in good shape. Shape: (num_envs,) bool."""
        return self._all_worlds

    def _apply_action(self, action: Tensor) -> None:
        super()._apply_action(action)
        # Copied, since the tracked position is a view of the engine's memory, which the step overwrites.
        self._before.copy_(self._tracked_position())

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        # The mean velocity of the control step, as Gymnasium pays for it, not the one at its end.
        velocity = (self._tracked_position() - self._before) / self.step_dt_s
        healthy = self._healthy()
        if self._terminates:
            terminated = ~healthy
        else:
            terminated = self._no_worlds
        speeds = {f"{axis}_velocity": velocity[:, i] for i, axis in enumerate(self.axes)}
        return self._pack_step(self._terms(velocity[:, 0], healthy), terminated, **speeds)

    def _terms(self, forward: Tensor, healthy: Tensor) -> list[Tensor]:
        """Return the reward's terms for velocities along x [m/s]. Shapes: (num_envs,) float64."""
        return [self.cfg.forward_reward_weight * forward, -self.cfg.ctrl_cost_weight * self._control_cost()]

    def _position_info(self) -> dict[str, Tensor]:
        info = super()._position_info()
        if len(self.axes) == 2:
            info["distance_from_origin"] = self._qpos[:, :2].norm(dim=-1)
        return info


class HalfCheetah(Runner):
    """Observation (num_envs, 17): positions 8 without x, velocities 9. Action (num_envs, 6)."""

    config = HalfCheetahConfig
    model_file = "half_cheetah.xml"
    normal_velocities = True


class Swimmer(Runner):
    """Observation (num_envs, 8): angles 3 without x and y, velocities 5. Action (num_envs, 2)."""

    config = SwimmerConfig
    model_file = "swimmer.xml"
    axes = ("x", "y")


class Walking(Runner):
    """A runner that also earns a reward for staying healthy, which means upright."""

    defines_fall = True
    reward_terms: tuple[str, ...] = ("reward_forward", "reward_ctrl", "reward_survive")

    def _terms(self, forward: Tensor, healthy: Tensor) -> list[Tensor]:
        return [*super()._terms(forward, healthy), self.cfg.healthy_reward * healthy.double()]


class Planar(Walking):
    """A walker in the plane: positions begin with x, z and pitch; observed velocities are clipped to 10."""

    def _healthy(self) -> Tensor:
        z = self._qpos[:, 1]
        pitch = self._qpos[:, 2]
        return in_open_interval(z, self.cfg.healthy_z_range) & in_open_interval(
            pitch, self.cfg.healthy_angle_range
        )

    def _position_info(self) -> dict[str, Tensor]:
        return super()._position_info() | {"z_distance_from_origin": self._qpos[:, 1] - self._start[1]}

    def _state(self) -> list[Tensor]:
        return [self._qpos[:, self._hidden :], self._qvel.clamp(-10.0, 10.0)]


class Hopper(Planar):
    """Observation (num_envs, 11): positions 5 without x, velocities 6. Action (num_envs, 3)."""

    config = HopperConfig
    model_file = "hopper.xml"

    def _healthy(self) -> Tensor:
        state = torch.cat([self._qpos[:, 2:], self._qvel], -1)
        return super()._healthy() & in_open_interval(state, self.cfg.healthy_state_range).all(-1)


class Walker2d(Planar):
    """Observation (num_envs, 17): positions 8 without x, velocities 9. Action (num_envs, 6)."""

    config = Walker2dConfig
    model_file = "walker2d_v5.xml"


class Ant(Walking, ContactEnv):
    """Observation (num_envs, 105): positions 13 without x, y, velocities 14, contacts 78. Action: 8."""

    config = AntConfig
    model_file = "ant.xml"
    reward_terms = ("reward_forward", "reward_ctrl", "reward_survive", "reward_contact")
    axes = ("x", "y")
    normal_velocities = True

    def _setup(self) -> None:
        body = self._find_body(self.cfg.main_body)
        self._torso = self.physics.field("xpos", precise=True)[:, body, :2]
        super()._setup()

    def _find_body(self, body: int | str) -> int:
        try:
            return int(self.physics.model.body(body).id)
        except (KeyError, IndexError) as error:
            model = self.physics.model
            names = ", ".join(filter(None, (model.body(i).name for i in range(model.nbody))))
            raise ValueError(
                f"task.main_body={body}: the robot has no such body; choose one of {names}"
            ) from error

    def _tracked_position(self) -> Tensor:
        return self._torso

    def _healthy(self) -> Tensor:
        low, high = self.cfg.healthy_z_range
        z = self._qpos[:, 2]
        return (z >= low) & (z <= high)

    def _terms(self, forward: Tensor, healthy: Tensor) -> list[Tensor]:
        self._clip_contacts()
        return [*super()._terms(forward, healthy), -self.cfg.contact_cost_weight * self._contact_cost()]

    def _forget_contacts(self, mask: Tensor) -> None:
        super()._forget_contacts(mask)
        self._clip_contacts()

    def _clip_contacts(self) -> None:
        # In place: nothing in this task needs the unclipped forces.
        self._contacts.clamp_(*self.cfg.contact_force_range)

    def _derived(self) -> list[Tensor]:
        if self.cfg.include_cfrc_ext_in_observation:
            return [self._contacts[:, 6:]]
        return []


def in_open_interval(value: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return where a value lies strictly between its bounds. Shape: that of `value`, bool."""
    return (value > bounds[0]) & (value < bounds[1])
