"""Collects rollouts: the policy acts, the environment steps, tensors fill up."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from factory.learners.rollout import Rollout
from factory.policies.mlp import MlpPolicy
from factory.runtime import device, distributed
from factory.runtime.graphs import Launcher, eager

Phase = Callable[[str], AbstractContextManager[Any]]
"""Enters a phase of the meter: `with phase("sim"):`."""


_NO_PHASE = nullcontext()


def no_phase(name: str) -> AbstractContextManager[None]:
    """Meter nothing."""
    return _NO_PHASE


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
    launcher: Launcher = eager
    obs: dict[str, Tensor] = field(init=False)
    state: Tensor = field(init=False)
    episode_return: Tensor = field(init=False)
    episode_length: Tensor = field(init=False)
    rollout: Rollout = field(init=False)
    """The last one."""
    sim_threads: int = field(init=False)
    """Torch threads that the environment's arithmetic is worth."""

    def __post_init__(self) -> None:
        """Start the first episodes and allocate the rollout."""
        on, num_envs = self.env.device, self.env.num_envs
        self._start()
        shape = (self.num_steps, num_envs)
        zeros = lambda *size: torch.zeros(*shape, *size, device=on)  # noqa: E731
        flags = lambda: torch.zeros(shape, dtype=torch.bool, device=on)  # noqa: E731
        seen = zeros(self.obs["policy"].shape[-1])
        is_shared = self.obs["critic"] is self.obs["policy"]
        self.rollout = Rollout(
            obs={"policy": seen, "critic": seen if is_shared else zeros(self.obs["critic"].shape[-1])},
            actions=zeros(math.prod(self.env.single_action_space.shape)),
            log_probs=zeros(),
            values=zeros(),
            next_values=zeros(),
            rewards=zeros(),
            terminated=flags(),
            truncated=flags(),
            live=flags(),
        )
        self._infer_threads = device.inference_threads(num_envs * self.policy.num_multiply_adds)
        self.sim_threads = device.elementwise_threads(self.obs["critic"].numel())
        self._final_critic_obs = torch.zeros_like(self.rollout.obs["critic"])
        if self.launcher is eager:
            self._launch = lambda: self.steps(self.phase)
        else:
            self._recorded = self.launcher(
                partial(self.steps, no_phase), [self.policy.generator, self.env.generator]
            )
            self._launch = self._launch_graph

    def collect(self) -> tuple[Rollout, EpisodeStats]:
        """Run `num_steps` control steps; the environment goes on where it was."""
        sums = distributed.all_reduce_sum_(self._launch())
        stats = EpisodeStats(
            episodes=sums[0],
            return_sum=sums[1],
            length_sum=sums[2],
            success_sum=sums[3],
            nonfinite=sums[4],
            live_steps=sums[5],
            reward_terms=sums[6:] / sums[5].clamp(min=1.0),
        )
        return self.rollout, stats

    def _launch_graph(self) -> Tensor:
        """Launch a rollout as one; what happens when within it is not seen from here."""
        with self.phase("sim"):
            return self._recorded()

    def steps(self, phase: Phase) -> Tensor:
        """Fill the rollout operation by operation; return the sums of what `_count` gives. Shape: (6 + num_terms,)."""
        rollout = self.rollout
        sums = torch.zeros(6 + len(self.env.unwrapped.reward_terms), device=self.env.device)
        with device.torch_threads(self.sim_threads):
            for t in range(self.num_steps):
                with phase("infer"), device.torch_threads(self._infer_threads):
                    action, log_prob, state = self.policy.act(self.obs, self.state)
                rollout.obs["policy"][t] = self.obs["policy"]
                if self.obs["critic"] is not self.obs["policy"]:
                    rollout.obs["critic"][t] = self.obs["critic"]
                with phase("sim"):
                    obs, reward, terminated, truncated, info = self.env.step(action)
                rollout.actions[t], rollout.log_probs[t] = action.view(len(action), -1), log_prob
                rollout.rewards[t], rollout.terminated[t], rollout.truncated[t] = (
                    reward,
                    terminated,
                    truncated,
                )
                rollout.live[t] = info["live"]
                self._final_critic_obs[t] = groups(info.get("final_obs", obs))["critic"]
                sums += self._count(reward, terminated | truncated, info)
                self._keep(groups(obs), state)
        with phase("infer"):
            self._value(rollout)
        return sums

    def _keep(self, obs: dict[str, Tensor], state: Tensor) -> None:
        """Keep what the next step starts from, where it was kept before."""
        self.obs["policy"].copy_(obs["policy"])
        if self.obs["critic"] is not self.obs["policy"]:
            self.obs["critic"].copy_(obs["critic"])
        self.state.copy_(state)

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
        own = {
            "state": self.state,
            "episode_return": self.episode_return,
            "episode_length": self.episode_length,
        }
        tensors = own | {f"obs/{name}": value for name, value in self.obs.items()}
        return {name: value.clone() for name, value in tensors.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`; where the environment cannot go on in its episodes, start new ones."""
        if not self.env.unwrapped.resumes_exactly:
            self._start()
            return
        self._keep(
            {k.removeprefix("obs/"): v for k, v in state.items() if k.startswith("obs/")}, state["state"]
        )
        self.episode_return.copy_(state["episode_return"])
        self.episode_length.copy_(state["episode_length"])

    def _start(self) -> None:
        """Start an episode in every world."""
        on, num_envs = self.env.device, self.env.num_envs
        obs = groups(self.env.reset()[0])
        policy = obs["policy"].clone()
        self.obs = {
            "policy": policy,
            "critic": policy if obs["critic"] is obs["policy"] else obs["critic"].clone(),
        }
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
