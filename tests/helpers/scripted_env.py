"""An environment whose rewards and ends follow a script, and whose observations say where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from factory.envs.core.batch_env import Observation
from factory.envs.tasks.cartpole import CartpoleSwingup


class ScriptedEnv(CartpoleSwingup):
    """The cart-pole's physics and `BatchEnv`'s episodes; rewards and terminations from tensors (steps,
    num_envs).

    Observation of the group `policy`: number of the episode, step in it, world, action that came in. The
    group `critic`, where asked for, is ten times that. The script starts anew after its last row.
    """

    def __init__(self, rewards: Tensor, terminated: Tensor, *, critic: bool = False, **kwargs: Any) -> None:
        self._rewards, self._terminated, self._critic, self._row = rewards, terminated, critic, 0
        num_envs = rewards.shape[1]
        self._world = torch.arange(num_envs).float()
        self.episode, self.applied = torch.zeros(num_envs), torch.zeros(num_envs, 1)
        super().__init__(num_envs=num_envs, num_threads=1, **kwargs)

    def _reset_envs(self, mask: Tensor) -> None:
        super()._reset_envs(mask)
        self.episode += mask

    def _apply_action(self, action: Tensor) -> None:
        super()._apply_action(action)
        self.applied.copy_(action)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        _, _, info = super()._get_rewards_and_dones()
        row = self._row % len(self._rewards)
        self._row += 1
        return self._rewards[row].clone(), self._terminated[row].clone(), info

    def _get_observations(self) -> Observation:
        columns = [self.episode, self.episode_steps.float(), self._world, self.applied[:, 0]]
        policy = torch.stack(columns, -1)
        return {"policy": policy, "critic": 10 * policy} if self._critic else {"policy": policy}


@dataclass
class Script:
    """What to do with an environment: its rewards and ends, actions and, where it never resets itself,
    resets.
    """

    mode: AutoresetMode
    limit: int
    rewards: Tensor
    terminated: Tensor
    actions: Tensor
    resets: Tensor

    def build(self, **kwargs: Any) -> ScriptedEnv:
        return ScriptedEnv(
            self.rewards,
            self.terminated,
            max_episode_steps=self.limit,
            autoreset_mode=self.mode,
            seed=0,
            **kwargs,
        )

    def run(self, env: Any) -> Iterator[tuple[Any, ...]]:
        """Yield (mask, obs) for a reset and (obs, reward, terminated, truncated, info) for a step."""
        yield torch.ones(env.num_envs, dtype=torch.bool), env.reset(seed=0)[0]
        for actions, mask in zip(self.actions, self.resets, strict=True):
            yield env.step(actions)
            if self.mode is AutoresetMode.DISABLED and mask.any():
                yield mask, env.reset(options={"reset_mask": mask.numpy()})[0]
