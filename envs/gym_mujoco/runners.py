"""Robots that run, hop, walk or swim along x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from envs.batch_env import Observation
from envs.gym_mujoco.base import GymEnv
from envs.gym_mujoco.config import AntConfig, HalfCheetahConfig, HopperConfig, SwimmerConfig, Walker2dConfig


class Runner(GymEnv):
    """A robot that is paid for its velocity along x and pays for its actions."""

    reward_terms = ("reward_forward", "reward_ctrl")
    axes = 1
    """Leading positions that say where the robot is: x, or x and y."""
    max_speed: float | None = None
    """Bound that observed velocities are clipped to."""

    def _bind(self) -> None:
        super()._bind()
        self._hidden = self.axes if self.cfg.exclude_current_positions_from_observation else 0
        self._before = torch.zeros_like(self._place())

    def _place(self) -> Tensor:
        """Return the place whose change is the velocity. Shape: (num_envs, axes) float64."""
        return self._qpos[:, : self.axes]

    def _apply_action(self, action: Tensor) -> None:
        super()._apply_action(action)
        self._before.copy_(self._place())

    def _after_physics(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        velocity = (self._place() - self._before) / self.step_dt_s
        return self._outcome(self._terms(velocity[:, 0]), self._unhealthy(), **self._motion(velocity))

    def _terms(self, forward: Tensor) -> list[Tensor]:
        """Return the reward's terms, for velocities along x (num_envs,) [m/s]."""
        return [self.cfg.forward_reward_weight * forward, -self.cfg.ctrl_cost_weight * self._ctrl_cost()]

    def _unhealthy(self) -> Tensor:
        """Return where the episode ends. Shape: (num_envs,) bool."""
        return self._never

    def _motion(self, velocity: Tensor) -> dict[str, Tensor]:
        """Return place and velocity, for `info`. Shapes: (num_envs,) float64."""
        place = self._qpos[:, : self.axes].clone()
        names = ("x", "y")[: self.axes]
        found = {f"{name}_position": place[:, i] for i, name in enumerate(names)}
        if self.axes == 2:
            found["distance_from_origin"] = place.norm(dim=-1)
        return found | {f"{name}_velocity": velocity[:, i] for i, name in enumerate(names)}

    def _observe(self) -> Observation:
        velocity = self._qvel if self.max_speed is None else self._qvel.clamp(-self.max_speed, self.max_speed)
        return {"policy": torch.cat([self._qpos[:, self._hidden :], velocity], -1).float()}


class HalfCheetah(Runner):
    """Observation (num_envs, 17): positions 8 without x, velocities 9. Action (num_envs, 6)."""

    config = HalfCheetahConfig
    model_file = "half_cheetah.xml"
    normal_velocities = True


class Swimmer(Runner):
    """Observation (num_envs, 8): joint angles 3 without x and y, velocities 5. Action (num_envs, 2)."""

    config = SwimmerConfig
    model_file = "swimmer.xml"
    axes = 2


class Walking(Runner):
    """A runner that is paid for being healthy, too."""

    reward_terms = ("reward_forward", "reward_ctrl", "reward_survive")

    def _healthy(self) -> Tensor:
        """Return where the robot is in good shape. Shape: (num_envs,) bool."""
        raise NotImplementedError

    def _terms(self, forward: Tensor) -> list[Tensor]:
        self._is_healthy = self._healthy()
        return [*super()._terms(forward), self.cfg.healthy_reward * self._is_healthy.double()]

    def _unhealthy(self) -> Tensor:
        return ~self._is_healthy if self.cfg.terminate_when_unhealthy else self._never


class Planar(Walking):
    """A walker in the plane: its positions begin with x, z and pitch."""

    max_speed = 10.0

    def _healthy(self) -> Tensor:
        z, pitch = self._qpos[:, 1], self._qpos[:, 2]
        return _inside(z, self.cfg.healthy_z_range) & _inside(pitch, self.cfg.healthy_angle_range)

    def _motion(self, velocity: Tensor) -> dict[str, Tensor]:
        return super()._motion(velocity) | {"z_distance_from_origin": self._qpos[:, 1] - self._start[1]}


class Hopper(Planar):
    """Observation (num_envs, 11): positions 5 without x, velocities 6. Action (num_envs, 3)."""

    config = HopperConfig
    model_file = "hopper.xml"

    def _healthy(self) -> Tensor:
        low, high = self.cfg.healthy_state_range
        state = torch.cat([self._qpos[:, 2:], self._qvel], -1)
        return super()._healthy() & (state.amin(-1) > low) & (state.amax(-1) < high)


class Walker2d(Planar):
    """Observation (num_envs, 17): positions 8 without x, velocities 9. Action (num_envs, 6)."""

    config = Walker2dConfig
    model_file = "walker2d_v5.xml"


class Ant(Walking):
    """Observation (num_envs, 105): positions 13 without x and y, velocities 14, contact forces 78. Action (num_envs, 8)."""

    config = AntConfig
    model_file = "ant.xml"
    reward_terms = ("reward_forward", "reward_ctrl", "reward_survive", "reward_contact")
    axes = 2
    normal_velocities = True

    def _bind(self) -> None:
        self._xpos = self.physics.field("xpos", precise=True)
        self._forces = self.physics.field("cfrc_ext")
        body = self.cfg.main_body
        self._body = body if isinstance(body, int) else self.physics.model.body(body).id
        super()._bind()

    def _place(self) -> Tensor:
        return self._xpos[:, self._body, :2]

    def _healthy(self) -> Tensor:
        low, high = self.cfg.healthy_z_range
        z = self._qpos[:, 2]
        finite = (self._qpos.sum(-1) + self._qvel.sum(-1)).isfinite()
        return finite & (z >= low) & (z <= high)

    def _terms(self, forward: Tensor) -> list[Tensor]:
        forces = self._clipped_forces().flatten(1)
        return [*super()._terms(forward), -self.cfg.contact_cost_weight * forces.square().sum(-1).double()]

    def _clipped_forces(self) -> Tensor:
        return self._forces.clamp(*self.cfg.contact_force_range)

    def _observe(self) -> Observation:
        state = super()._observe()["policy"]
        if not self.cfg.include_cfrc_ext_in_observation:
            return {"policy": state}
        return {"policy": torch.cat([state, self._clipped_forces()[:, 1:].flatten(1)], -1)}


def _inside(value: Tensor, bounds: tuple[float, float]) -> Tensor:
    return (value > bounds[0]) & (value < bounds[1])


make_half_cheetah = HalfCheetah.single
make_swimmer = Swimmer.single
make_hopper = Hopper.single
make_walker2d = Walker2d.single
make_ant = Ant.single
