"""Batched environments for rsl_rl."""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict
from torch import Tensor

from factory.envs.core.observations import groups_of
from factory.envs.wrappers.base import require_same_step


class RslRlVecEnv(VecEnv):
    """A torch vector environment as an rsl_rl `VecEnv`, for example `OnPolicyRunner(RslRlVecEnv(env), cfg)`.

    Observation groups keep their names: `policy`, and `critic` where the critic sees more.
    """

    def __init__(self, env: Any) -> None:
        """Adapt `env`, which must reset finished worlds in the same step, and start its first episodes."""
        require_same_step(env, "rsl_rl")
        self.env = env
        self.num_envs = env.num_envs
        self.num_actions = env.single_action_space.shape[0]
        self.max_episode_length = env.unwrapped.max_episode_steps
        self.device = env.device
        self.cfg = env.unwrapped.cfg
        self._obs = self._grouped(env.reset()[0])

    @property
    def episode_length_buf(self) -> Tensor:
        """Steps every running episode has had; rsl_rl writes it to let episodes end at different times."""
        return self.env.unwrapped.episode_steps

    @episode_length_buf.setter
    def episode_length_buf(self, value: Tensor) -> None:
        self.env.unwrapped.episode_steps.copy_(value)

    def get_observations(self) -> TensorDict:
        """Return the observation returned last."""
        return self._obs

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """Step; `extras["time_outs"]` marks time limits, `extras["log"]` holds means of the reward terms."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._obs = self._grouped(obs)
        terms = zip(self.env.unwrapped.reward_terms, info["reward_terms"].mean(0), strict=True)
        extras = {"time_outs": truncated, "log": {f"/reward_terms/{name}": mean for name, mean in terms}}
        return self._obs, reward, (terminated | truncated).long(), extras

    def _grouped(self, obs: Any) -> TensorDict:
        return TensorDict(groups_of(obs), batch_size=[self.num_envs], device=torch.device(self.device))
