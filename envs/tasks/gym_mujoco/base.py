"""The base of the eleven Gymnasium tasks: model, action space, start noise, rewards and info."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import torch
from torch import Tensor

from factory.envs.core.batch_env import BatchEnv
from factory.envs.core.observations import Observation, checked_mask
from factory.envs.physics.contact_forces import add_contact_forces
from factory.envs.rendering.scenery import add_scenery
from factory.envs.robots import robot_file
from factory.envs.tasks.gym_mujoco.config import GymConfig

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
"""Gymnasium's own robots."""


class GymEnv(BatchEnv):
    """A task of gymnasium's `envs.mujoco`, version 5.

    For equal states and actions, observations, rewards, `info` and flags are gymnasium's, in float32. The
    action space is the actuators' range; actions outside of it are clipped to it before they act and cost. A
    world whose state is no longer finite is terminated, whatever the task says.

    A subclass names its `config`, `model_file` and `reward_terms`, and implements `_get_rewards_and_dones`.
    """

    config: type[GymConfig]
    model_file: str
    axes: tuple[str, ...] = ()
    """Axes of the first positions, which `exclude_current_positions_from_observation` leaves out."""
    normal_velocities = False
    """Draw initial velocities from a normal distribution; positions are always uniform."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset worlds; `info` holds their positions, as Gymnasium's does."""
        obs, info = super().reset(seed=seed, options=options)
        return obs, info | self._position_info()

    @property
    def robot_name(self) -> str:
        """Name of the file the robot comes from, or `default`."""
        if self.cfg.robot == "default":
            return "default"
        return Path(self.cfg.robot).stem

    def _load_model(self) -> mujoco.MjModel:
        robot = self.cfg.robot
        if robot == "default":
            path = ASSETS / self.model_file
        else:
            # A file of the user's; it is read as data and checked before MuJoCo sees it.
            path = Path(robot.removeprefix("file:")).expanduser()
        if not path.is_file():
            raise ValueError(
                f"robot={robot}: no such file; give the path of an MJCF file built like {self.model_file}"
            )
        if robot != "default":
            try:
                robot_file.check(path)
            except ValueError as error:
                raise ValueError(f"robot={robot}: {error}") from error
        try:
            spec = mujoco.MjSpec.from_file(str(path))
            self._prepare(spec)
            if robot != "default":
                add_scenery(spec)
            return spec.compile()
        except ValueError as error:
            raise ValueError(
                f"robot={robot}: MuJoCo cannot read {path}: {' '.join(str(error).split())}"
            ) from error

    def _prepare(self, spec: mujoco.MjSpec) -> None:
        """Add what the task needs to the robot, as far as the engine cannot give it."""

    def _setup(self) -> None:
        self._start = torch.as_tensor(self.physics.model.qpos0, device=self.device)
        excludes_positions = getattr(self.cfg, "exclude_current_positions_from_observation", False)
        self._hidden = len(self.axes) * excludes_positions

    def _reset_envs(self, mask: Tensor) -> None:
        scale = self.cfg.reset_noise_scale
        nq = self._qpos.shape[1]
        nv = self._qvel.shape[1]
        position, velocity = (scale * self.uniform(-1.0, 1.0, nq + nv)).split([nq, nv], -1)
        if self.normal_velocities:
            velocity = scale * self.normal(nv)
        self._write_state(self._start + position, velocity, mask)

    def _control_cost(self) -> Tensor:
        """Return the sum of the squared actions. Shape: (num_envs,) float64."""
        return self._ctrl.square().sum(-1)

    def _pack_step(
        self, terms: list[Tensor], terminated: Tensor, **info: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return reward, `terminated` and info from float64 `terms` in the order of `reward_terms`."""
        # Gymnasium adds up in float64; rounding comes last.
        exact = torch.stack(terms, -1)
        table = exact.float()
        named = dict(zip(self.reward_terms, table.unbind(-1), strict=True))
        return (
            exact.sum(-1).float(),
            terminated,
            {"reward_terms": table, **self._position_info(), **info, **named},
        )

    def _position_info(self) -> dict[str, Tensor]:
        """Return the entries of `info` that `reset` returns, too. Shapes: (num_envs, ...)."""
        position = self._qpos[:, : len(self.axes)].clone()
        return {f"{axis}_position": position[:, i] for i, axis in enumerate(self.axes)}

    def _get_observations(self) -> Observation:
        state = torch.cat(self._state(), -1).float()
        more = self._derived()
        return {"policy": torch.cat([state, *more], -1) if more else state}

    def _state(self) -> list[Tensor]:
        """Return the observation's parts that are float64. Shapes: (num_envs, ...)."""
        return [self._qpos[:, self._hidden :], self._qvel]

    def _derived(self) -> list[Tensor]:
        """Return the observation's other parts, which follow. Shapes: (num_envs, ...) float32."""
        return []


class ContactEnv(GymEnv):
    """A task that feels the contact forces on its bodies."""

    def _prepare(self, spec: mujoco.MjSpec) -> None:
        if self.physics_name == "mujoco":
            add_contact_forces(spec, every=self.decimation)

    def _setup(self) -> None:
        super()._setup()
        self._contacts = self.physics.field("cfrc_ext").flatten(1)
        """Torque and force [N m, N] on every body, the world first. Shape: (num_envs, 6 * nbody) float32."""

    def _contact_cost(self) -> Tensor:
        """Return the sum of the squared contact forces. Shape: (num_envs,) float64."""
        return torch.linalg.vector_norm(self._contacts, dim=-1).double().square()

    def _reset(self, mask: Tensor) -> None:
        super()._reset(mask)
        self._forget_contacts(mask)

    def set_state(self, qpos: Any, qvel: Any, mask: Tensor | None = None) -> None:
        """Put worlds into a state; see `BatchEnv.set_state`."""
        super().set_state(qpos, qvel, mask)
        self._forget_contacts(self._all_worlds if mask is None else checked_mask(self, mask))

    def _forget_contacts(self, mask: Tensor) -> None:
        """Clear the forces of worlds that have not moved yet, as gymnasium has them."""
        self._contacts.masked_fill_(mask[:, None], 0.0)
