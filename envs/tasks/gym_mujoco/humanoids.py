"""A humanoid that walks, and one that gets up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from factory.envs.tasks.gym_mujoco.base import ContactEnv
from factory.envs.tasks.gym_mujoco.config import HumanoidConfig, HumanoidStandupConfig
from factory.envs.tasks.gym_mujoco.runners import Walking, in_open_interval

_DERIVED = {"cinert": 10, "cvel": 6, "qfrc_actuator": 6}
"""Observed field -> count of its leading numbers, of the world or the root's joint, that are left out."""


class HumanoidBody(ContactEnv):
    """A humanoid with the observations of both tasks.

    Observation (num_envs, 348): positions 22 without x and y, velocities 23, inertias 130, body velocities
    78, actuator forces 17, contacts 78. Action (num_envs, 17).
    """

    axes: tuple[str, ...] = ("x", "y")

    def _setup(self) -> None:
        super()._setup()
        cfg = self.cfg
        field = self.physics.field
        self._parts = [
            field(name).flatten(1)[:, skipped:]
            for name, skipped in _DERIVED.items()
            if getattr(cfg, f"include_{name}_in_observation")
        ]
        if cfg.include_cfrc_ext_in_observation:
            # Without the world's entry, which is always zero.
            self._parts.append(self._contacts[:, 6:])
        self._tendon_length = field("ten_length")
        self._tendon_velocity = field("ten_velocity")

    def _derived(self) -> list[Tensor]:
        return self._parts

    def _position_info(self) -> dict[str, Tensor]:
        tendons = {
            "tendon_length": self._tendon_length.clone(),
            "tendon_velocity": self._tendon_velocity.clone(),
        }
        return super()._position_info() | tendons


class Humanoid(HumanoidBody, Walking):
    """Walk: paid for the velocity of the centre of mass. See `HumanoidBody` for the observation."""

    config = HumanoidConfig
    model_file = "humanoid.xml"
    reward_terms = ("reward_forward", "reward_ctrl", "reward_survive", "reward_contact")

    def _setup(self) -> None:
        self._centre = self.physics.field("subtree_com", precise=True)[:, 0, :2]
        super()._setup()

    def _tracked_position(self) -> Tensor:
        return self._centre

    def _healthy(self) -> Tensor:
        return in_open_interval(self._qpos[:, 2], self.cfg.healthy_z_range)

    def _terms(self, forward: Tensor, healthy: Tensor) -> list[Tensor]:
        cost = (self.cfg.contact_cost_weight * self._contact_cost()).clamp(*self.cfg.contact_cost_range)
        return [*super()._terms(forward, healthy), -cost]


class HumanoidStandup(HumanoidBody):
    """Get up from lying: paid for the torso's height. See `HumanoidBody` for the observation."""

    config = HumanoidStandupConfig
    model_file = "humanoidstandup.xml"
    reward_terms = ("reward_linup", "reward_quadctrl", "reward_impact", "reward_constant")

    def _setup(self) -> None:
        super()._setup()
        self._one = torch.ones(self.num_envs, dtype=torch.float64, device=self.device)
        self._timestep_s = float(self.physics.model.opt.timestep)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        cfg = self.cfg
        # Gymnasium divides the height itself, not its change, by the physics step.
        rise = self._qpos[:, 2] / self._timestep_s
        impact = (cfg.impact_cost_weight * self._contact_cost()).clamp(*cfg.impact_cost_range)
        return self._pack_step(
            [rise, -cfg.ctrl_cost_weight * self._control_cost(), -impact, self._one], self._no_worlds
        )

    def _position_info(self) -> dict[str, Tensor]:
        return super()._position_info() | {"z_distance_from_origin": self._qpos[:, 2] - self._start[2]}
