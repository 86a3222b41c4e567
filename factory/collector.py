"""Collects rollouts: the policy acts, the environment steps, tensors fill up."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from factory import device, distributed
from factory.policies.mlp import MlpPolicy
from factory.rollout import Rollout

Phase = Callable[[str], AbstractContextManager[Any]]
"""Enters a phase of the meter: `with phase("sim"):`."""


@dataclass(kw_only=True)
class EpisodeStats:
    """Sums over the episodes that ended in a rollout, and over its steps; on the device until read."""

    episodes: Tensor
    return_sum: Tensor
    length_sum: Tensor
    success_sum: Tensor
    nonfinite: Tensor
    live_steps: Tensor
    reward_terms: Tensor
    """Mean of every term in a live control step. Shape: (num_terms,)."""


@dataclass(kw_only=True)
class Collector:
    """Steps `env` with `policy`, `num_steps` control steps a rollout.

    Rollout tensors are allocated once and overwritten by the next `collect`.
    """

    env: Any
    policy: MlpPolicy
    num_steps: int
    phase: Phase
    obs: dict[str, Tensor] = field(init=False)
    state: Tensor = field(init=False)
    episode_return: Tensor = field(init=False)
    episode_length: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Start the first episodes and allocate the rollout."""
        on, num_envs = self.env.device, self.env.num_envs
        self._start()
        shape = (self.num_steps, num_envs)
        zeros = lambda *size: torch.zeros(*shape, *size, device=on)  # noqa: E731
        flags = lambda: torch.zeros(shape, dtype=torch.bool, device=on)  # noqa: E731
        self._rollout = Rollout(
            obs={name: zeros(value.shape[-1]) for name, value in self.obs.items()},
            actions=zeros(math.prod(self.env.single_action_space.shape)),
            log_probs=zeros(), values=zeros(), next_values=zeros(), rewards=zeros(),
            terminated=flags(), truncated=flags(), live=flags(),
        )  # fmt: skip
        self._infer_threads = device.inference_threads(num_envs * self.policy.num_multiply_adds)
        self._sim_threads = device.elementwise_threads(self.obs["critic"].numel())
        self._final_critic_obs = torch.zeros_like(self._rollout.obs["critic"])

    def collect(self) -> tuple[Rollout, EpisodeStats]:
        """Run `num_steps` control steps; the environment goes on where it was."""
        rollout = self._rollout
        num_terms = len(self.env.unwrapped.reward_terms)
        sums = torch.zeros(6 + num_terms, device=self.env.device)
        with device.torch_threads(self._sim_threads):
            for t in range(self.num_steps):
                with self.phase("infer"), device.torch_threads(self._infer_threads):
                    action, log_prob, self.state = self.policy.act(self.obs, self.state)
                for name, group in self.obs.items():
                    rollout.obs[name][t] = group
                with self.phase("sim"):
                    obs, reward, terminated, truncated, info = self.env.step(action)
                rollout.actions[t], rollout.log_probs[t] = action.view(len(action), -1), log_prob
                rollout.rewards[t], rollout.terminated[t], rollout.truncated[t] = reward, terminated, truncated
                rollout.live[t] = info["live"]
                self._final_critic_obs[t] = groups(info.get("final_obs", obs))["critic"]
                sums += self._count(reward, terminated | truncated, info)
                self.obs = groups(obs)
        with self.phase("infer"):
            self._value(rollout)
        sums = distributed.sum_(sums)
        stats = EpisodeStats(
            episodes=sums[0], return_sum=sums[1], length_sum=sums[2], success_sum=sums[3], nonfinite=sums[4],
            live_steps=sums[5], reward_terms=sums[6:] / sums[5].clamp(min=1.0),
        )  # fmt: skip
        return rollout, stats

    def _value(self, rollout: Rollout) -> None:
        """Fill in the values of every observation and of the state that every step really led to.

        Within an episode that is the next row's observation. A CPU asks the critic only about the other rows; on a
        GPU picking them would stall it.
        """
        rollout.values.copy_(self.policy.value(rollout.obs))
        rollout.next_values[:-1] = rollout.values[1:]
        apart = rollout.terminated | rollout.truncated
        apart[-1] = True
        if self.env.device.type == "cpu":
            rollout.next_values[apart] = self.policy.value({"critic": self._final_critic_obs[apart]})
        else:
            final = self.policy.value({"critic": self._final_critic_obs})
            rollout.next_values.copy_(torch.where(apart, final, rollout.next_values))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the next `collect` starts from."""
        own = {"state": self.state, "episode_return": self.episode_return, "episode_length": self.episode_length}
        tensors = own | {f"obs/{name}": value for name, value in self.obs.items()}
        return {name: value.clone() for name, value in tensors.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`; where the environment cannot go on in its episodes, start new ones."""
        if not self.env.unwrapped.resumes_exactly:
            self._start()
            return
        self.state = state["state"]
        self.episode_return.copy_(state["episode_return"])
        self.episode_length.copy_(state["episode_length"])
        self.obs = {k.removeprefix("obs/"): v for k, v in state.items() if k.startswith("obs/")}

    def _start(self) -> None:
        """Start an episode in every world."""
        on, num_envs = self.env.device, self.env.num_envs
        self.obs = groups(self.env.reset()[0])
        self.state = self.policy.initial_state(num_envs)
        self.episode_return = torch.zeros(num_envs, device=on)
        self.episode_length = torch.zeros(num_envs, device=on)

    def _count(self, reward: Tensor, done: Tensor, info: dict[str, Any]) -> Tensor:
        """Return this step's episode sums and reward terms. Shape: (6 + num_terms,)."""
        live = info["live"]
        self.episode_return += reward * live
        self.episode_length += live
        ended = done.float()
        success = info["success"].float() if "success" in info else torch.zeros_like(ended)
        sums = torch.stack(
            [
                ended.sum(),
                (self.episode_return * ended).sum(),
                (self.episode_length * ended).sum(),
                (success * ended).sum(),
                info["nonfinite"].sum(),
                live.sum(),
            ]
        )
        self.episode_return.masked_fill_(done, 0.0)
        self.episode_length.masked_fill_(done, 0.0)
        return torch.cat([sums, (info["reward_terms"] * live[:, None]).sum(0)])


def groups(obs: Any) -> dict[str, Tensor]:
    """Return observation groups `policy` and `critic`; the critic sees the policy's where it has none."""
    if isinstance(obs, dict):
        return obs if "critic" in obs else obs | {"critic": obs["policy"]}
    return {"policy": obs, "critic": obs}
