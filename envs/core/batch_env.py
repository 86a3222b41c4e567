"""The batched environment with MuJoCo beneath."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation as Observation
from factory.envs.core.observations import checked_mask
from factory.envs.physics import PhysicsConfig, open_physics
from factory.envs.rendering.camera import Camera
from factory.envs.rendering.renderer import Renderer, open_renderer


class BatchEnv(EpisodeEnv):
    """`num_envs` worlds of one MuJoCo model; `EpisodeEnv` has the contract.

    A task names its `config` and implements `_load_model`, `_reset_envs`, `_get_rewards_and_dones` and
    `_get_observations`; `_apply_action` too, unless an action is what the actuators take.

    Order within `step`: `_apply_action` -> physics -> `_get_rewards_and_dones`, and on as in `EpisodeEnv`.
    """

    config: type[Any]
    """Class of the task's settings; needs `decimation`, the physics steps of a control step."""
    camera: Camera = Camera()
    """Camera of videos and of `render`."""

    @abstractmethod
    def _load_model(self) -> mujoco.MjModel:
        """Return the model of one world."""

    def _open_engine(self, engine: PhysicsConfig, *, num_threads: int) -> None:
        if self.agents_per_world != 1:
            raise ValueError(
                f"task.agents_per_world={self.agents_per_world}: a world of MuJoCo is one row; derive a task "
                "of several agents from EpisodeEnv"
            )
        self.decimation: int = self.cfg.decimation
        model = self._load_model()
        engine = PhysicsConfig.of(engine, num_threads=num_threads)
        self.physics = open_physics(engine, model, num_envs=self.num_envs, device=self.device)
        self.step_dt_s = float(model.opt.timestep) * self.decimation
        self._qpos = self.physics.field("qpos")
        self._qvel = self.physics.field("qvel")
        self._ctrl = self.physics.field("ctrl")
        self._renderer: Any = None

    def _action_box(self) -> Box:
        """Return the bounds of one world's action: the actuators' own ranges, unless a task scales them."""
        model = self.physics.model
        # MuJoCo keeps a range for every actuator, which holds only where the limit is switched on.
        low, high = np.where(model.actuator_ctrllimited, model.actuator_ctrlrange.T, [[-np.inf], [np.inf]])
        return Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def _apply_action(self, action: Tensor) -> None:
        """Write actuator controls for `action` (num_envs, action_size), here itself within its bounds."""
        self._ctrl.copy_(self.native_actions(action))

    def _advance(self, action: Tensor) -> None:
        self._apply_action(action)
        self.physics.step(self.decimation)

    # Gymnasium's interface.

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return one RGB frame a world (480, 640, 3) uint8, or None without `render_mode="rgb_array"`."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = self.open_renderer(width=640, height=480)
        qpos = self._qpos.cpu().numpy()
        return tuple(self._renderer.render(row[None], camera=self.camera)[0] for row in qpos)

    def snapshot(self) -> Any:
        """Return the positions of world 0. Shape: (nq,)."""
        # Copied, since on a CPU the array would be a view of the state that the next step overwrites.
        return self._qpos[0].cpu().numpy().copy()

    def open_renderer(self, *, width: int, height: int, backend: str = "auto") -> Renderer:
        """Return a renderer of positions."""
        return open_renderer(self.physics.model, width=width, height=height, backend=backend)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of the physics engine."""
        return self.physics.warnings()

    # State.

    @property
    def physics_s(self) -> float:
        """Wall time spent in the physics engine since construction [s]."""
        return self.physics.elapsed_s

    def set_state(self, qpos: Any, qvel: Any, mask: Tensor | None = None) -> None:
        """Put the worlds in `mask` (default all) into a state. Shapes: (num_envs, nq), (num_envs, nv)."""
        mask = self._all_worlds if mask is None else checked_mask(self, mask)
        qpos, qvel = (torch.as_tensor(value, device=self.device) for value in (qpos, qvel))
        # Controls of before would act on a state that they do not belong to.
        self._ctrl.masked_fill_(mask[:, None], 0.0)
        self._write_state(qpos, qvel, mask)
        self.physics.reset(mask)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of physics, episode clocks, generator and task tensors, keyed by name."""
        physics = {f"physics/{name}": value for name, value in self.physics.state().items()}
        return physics | super().state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`; later steps repeat exactly."""
        physics = {k.removeprefix("physics/"): v for k, v in state.items() if k.startswith("physics/")}
        self.physics.set_state(physics)
        super().load_state_dict(state)

    def _write_state(self, qpos: Tensor, qvel: Tensor, mask: Tensor) -> None:
        for field, value in ((self._qpos, qpos), (self._qvel, qvel)):
            # In place and with a fixed shape: a CUDA graph holds the address of the field.
            field.copy_(torch.where(mask[:, None], value.to(field.dtype), field))

    def _reset(self, mask: Tensor) -> None:
        # A task may write the controls that an episode begins with.
        self._ctrl.masked_fill_(mask[:, None], 0.0)
        super()._reset(mask)
        self.physics.reset(mask)
