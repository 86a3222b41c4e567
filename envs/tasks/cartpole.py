"""Small tasks that learn in seconds: for tests, for smoke runs and for a first look."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mujoco
import torch
from torch import Tensor

from factory.envs.core.batch_env import BatchEnv
from factory.envs.core.observations import Observation
from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig


class CartpoleSwingup(BatchEnv):
    """Cart-pole swing-up at 50 Hz.

    Observation (num_envs, 5): cart position [m], cos and sin of the pole angle (0 = hanging), cart velocity
    [m/s], pole velocity [rad/s]. Action (num_envs, 1): cart force / 20 N. Reward in [0, 1], after the
    multiplicative shaping of dm_control's swingup (Tassa et al. 2018, arXiv:1801.00690), so the return of
    an episode is at most `max_episode_steps`. There is no terminal state.
    """

    config = CartpoleSwingupConfig
    defines_success = True
    reward_terms = ("upright", "centred", "calm")

    def _load_model(self) -> mujoco.MjModel:
        return mujoco.MjModel.from_xml_path(str(Path(__file__).parents[1] / "robots" / "cartpole.xml"))

    def _reset_envs(self, mask: Tensor) -> None:
        noise = self.normal(4) * self.cfg.reset_noise
        self._write_state(noise[:, :2], noise[:, 2:], mask)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        qpos = self._qpos.float()
        qvel = self._qvel.float()
        terms = torch.stack(
            [reward_upright(qpos[:, 1]), reward_centred(qpos[:, 0]), reward_calm(qvel[:, 1])], -1
        )
        # A product: each term must be good, none can make up for another.
        reward = terms.prod(-1)
        return reward, self._no_worlds, {"reward_terms": terms, "success": terms[:, 0] > 0.95}

    def _get_observations(self) -> Observation:
        qpos = self._qpos.float()
        qvel = self._qvel.float()
        angle = qpos[:, 1:]
        return {"policy": torch.cat([qpos[:, :1], angle.cos(), angle.sin(), qvel], -1)}

    def captions(self) -> list[str]:
        """Return the pole's tilt from upright."""
        angles = self._qpos[:, 1].tolist()
        return [f"tilt {abs(math.degrees(math.remainder(a - math.pi, math.tau))):5.1f} deg" for a in angles]


def reward_upright(angle: Tensor) -> Tensor:
    """Return 1 for a pole standing up, 0 for one hanging. Shape: (num_envs,) [rad] -> (num_envs,)."""
    return 0.5 * (1.0 - angle.cos())


def reward_centred(position: Tensor) -> Tensor:
    """Return 1 in the middle of the rail, 0.5 a metre away. Shape: (num_envs,) [m] -> (num_envs,)."""
    return 1.0 / (1.0 + position.square())


def reward_calm(velocity: Tensor) -> Tensor:
    """Return 1 for a pole at rest, 0.5 at 5 rad/s, so that whirling does not pay.

    Shape: (num_envs,) [rad/s].
    """
    return 1.0 / (1.0 + (velocity / 5.0).square())
