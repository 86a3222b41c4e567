"""The shuttle task."""

from __future__ import annotations

from typing import Any

import mujoco
import torch
from torch import Tensor

from factory.envs.core.batch_env import BatchEnv
from factory.envs.core.observations import Observation
from shuttle.task_config import ShuttleConfig

MODEL = """
<mujoco model="shuttle">
  <option timestep="0.01"/>
  <worldbody>
    <body name="shuttle">
      <joint name="rail" type="slide" axis="1 0 0" damping="2"/>
      <geom type="box" size="0.1 0.1 0.1" mass="1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="rail" gear="10" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


class Shuttle(BatchEnv):
    """Shuttle on a rail at 20 Hz.

    Observation (num_envs, 3): position [m], velocity [m/s], and the place to go to [m], later 0.
    Action (num_envs, 1): force / 10 N. Reward in (0, 1]: nearness of the place.
    """

    config = ShuttleConfig
    reward_terms = ("near",)
    persistent = ("place",)

    cfg: ShuttleConfig

    def _load_model(self) -> mujoco.MjModel:
        return mujoco.MjModel.from_xml_string(MODEL)

    def _setup(self) -> None:
        self.place = torch.zeros(self.num_envs, 1, device=self.device)

    def _reset_envs(self, mask: Tensor) -> None:
        self.place.copy_(torch.where(mask[:, None], self.uniform(-1.0, 1.0, 1), self.place))
        at_rest = torch.zeros_like(self._qpos)
        self._write_state(at_rest, at_rest, mask)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        distance = (self._qpos.float() - self.place)[:, 0].abs()
        near = reward_near(distance)
        return near, self._no_worlds, {"reward_terms": near[:, None], "success": distance < 0.1}

    def _get_observations(self) -> Observation:
        is_shown = self.episode_steps[:, None] < self.cfg.shown_steps
        return {"policy": torch.cat([self._qpos.float(), self._qvel.float(), self.place * is_shown], -1)}


def reward_near(distance: Tensor) -> Tensor:
    """Return 1 at the place, 0.5 at half a metre. Shape: (num_envs,) [m] -> (num_envs,)."""
    return 1.0 / (1.0 + 2.0 * distance)
