"""What the eleven gymnasium tasks share: model, action space, start noise, and how they are built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.batch_env import BatchEnv, SingleEnv
from envs.gym_mujoco.config import GymConfig

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
"""Gymnasium's own robots."""


class GymEnv(BatchEnv):
    """A task of gymnasium's `envs.mujoco`, version 5.

    Observations, rewards, `info` and flags are those of gymnasium for equal states and actions, in float32.
    The action space is the actuators' range; actions outside of it are clipped to it before they act and cost.
    A world whose state is no longer finite is terminated, whatever the task says.

    A subclass names its `config`, the file of its `model` and its `reward_terms`, and implements `_after_physics`
    and `_observe`.
    """

    config: type[GymConfig]
    model_file: str
    normal_velocities = False
    """Draw the initial velocities from a normal distribution; positions are uniform."""

    def __init__(
        self,
        *,
        num_envs: int = 1,
        device: str | torch.device = "cpu",
        physics: str = "mujoco",
        num_threads: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        seed: int | None = None,
        render_mode: str | None = None,
        **task: Any,
    ) -> None:
        cfg: Any = self.config(**task)
        self.cfg = cfg
        model = self._load_model(cfg.robot)
        super().__init__(
            model,
            num_envs=num_envs,
            action_size=model.nu,
            decimation=cfg.frame_skip,
            max_episode_steps=cfg.max_episode_steps,
            device=device,
            physics=physics,
            num_threads=num_threads,
            autoreset_mode=autoreset_mode,
            seed=seed,
            render_mode=render_mode,
        )
        self._bind()
        self._set_observation_space()

    @classmethod
    def single(cls, **kwargs: Any) -> SingleEnv:
        """Build the single-world version, for `gymnasium.make`."""
        return SingleEnv(cls(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **kwargs))

    def _load_model(self, robot: str) -> mujoco.MjModel:
        path = ASSETS / self.model_file if robot == "default" else Path(robot.removeprefix("file:"))
        return mujoco.MjModel.from_xml_path(str(path))

    def _bind(self) -> None:
        """Fetch the fields once and place constants on the device; a subclass adds its own."""
        physics, model = self.physics, self.physics.model
        self._qpos, self._qvel, self._ctrl = (physics.field(name) for name in ("qpos", "qvel", "ctrl"))
        self._low, self._high = torch.as_tensor(model.actuator_ctrlrange.T, device=self.device).float()
        self._start = torch.as_tensor(model.qpos0, device=self.device)
        self._never = ~self._all_worlds

    def _set_spaces(self, action_size: int) -> None:
        low, high = self.physics.model.actuator_ctrlrange.T.astype(np.float32)
        self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _reset_worlds(self, mask: Tensor) -> None:
        scale, (nq, nv) = self.cfg.reset_noise_scale, (self._qpos.shape[1], self._qvel.shape[1])
        noise = scale * self.uniform(-1.0, 1.0, nq + nv)
        velocity = scale * self.normal(nv) if self.normal_velocities else noise[:, nq:]
        self._write_state(self._start + noise[:, :nq], velocity, mask)

    def _apply_action(self, action: Tensor) -> None:
        self._ctrl.copy_(action.clamp(self._low, self._high))

    def _ctrl_cost(self) -> Tensor:
        """Return the sum of the squared actions. Shape: (num_envs,) float64."""
        return self._ctrl.square().sum(-1)

    def _outcome(
        self, terms: list[Tensor], terminated: Tensor, **info: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return what `_after_physics` returns; `terms` are in the order of `reward_terms`."""
        table = torch.stack(terms, -1)
        reward = table.sum(-1).float()
        table = table.float()
        named = dict(zip(self.reward_terms, table.unbind(-1), strict=True))
        return reward, terminated, {"reward_terms": table, **info, **named}
