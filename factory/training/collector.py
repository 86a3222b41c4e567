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

from factory.envs.core.training_env import TrainingEnv
from factory.learners.rollout import Rollout
from factory.policies.base import Policy
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
    """Steps `env` with `policy`, `num_steps` control steps a rollout; it knows no learning algorithm.

    Rollout tensors are allocated once and overwritten by the next `collect`.
    """

    env: TrainingEnv
    policy: Policy
    num_steps: int
    phase: Phase
    launcher: Launcher = eager
    obs: dict[str, Tensor] = field(init=False)
    """Observations the next action is chosen from."""
    state: Tensor = field(init=False)
    """State of the policy before the next action. Shape: (num_envs, state_size)."""
    episode_return: Tensor = field(init=False)
    episode_length: Tensor = field(init=False)
    rollout: Rollout = field(init=False)
    """The last rollout."""
    sim_threads: int = field(init=False)
    """Torch threads for the arithmetic of the environment."""

    def __post_init__(self) -> None:
        """Start the first episodes and allocate the rollout."""
        self._start()
        self.rollout = self._allocate()

        # Small tensors are slower with more threads, so networks and environment get as many as they are worth.
        num_envs = self.env.num_envs
        self._infer_threads = device.inference_threads(num_envs * self.policy.num_multiply_adds)
        self.sim_threads = device.elementwise_threads(self.obs["critic"].numel())

        if self.launcher is eager:
            self._launch = lambda: self.steps(self.phase)
        else:
            generators = [self.policy.generator, self.env.generator]
            self._recorded = self.launcher(partial(self.steps, no_phase), generators)
            self._launch = self._launch_graph

    def collect(self) -> tuple[Rollout, EpisodeStats]:
        """Run `num_steps` control steps from where the last rollout ended."""
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
        """Launch a whole rollout as a CUDA graph; phases within it cannot be told apart from here."""
        with self.phase("sim"):
            return self._recorded()

    def steps(self, phase: Phase) -> Tensor:
        """Fill the rollout operation by operation; return the sums of `_count`. Shape: (6 + num_terms,)."""
        rollout = self.rollout
        rollout.initial_state.copy_(self.state)
        sums = torch.zeros(6 + len(self.env.reward_terms), device=self.env.device)
        with device.torch_threads(self.sim_threads):
            for t in range(self.num_steps):
                with phase("infer"), device.torch_threads(self._infer_threads):
                    action, extras, state = self.policy.act(self.obs, self.state)
                self._store(rollout.obs, t, self.obs)
                with phase("sim"):
                    obs, reward, terminated, truncated, info = self.env.step(action)

                rollout.actions[t] = action.view(len(action), -1)
                rollout.rewards[t] = reward
                rollout.terminated[t] = terminated
                rollout.truncated[t] = truncated
                rollout.live[t] = info["live"]
                self._store(rollout.final_obs, t, groups(info.get("final_obs", obs)))
                for name, value in extras.items():
                    self._extra(name, value)[t] = value

                ended = terminated | truncated
                sums += self._count(reward, ended, info)
                self._keep(groups(obs), self._restart(state, ended | ~info["live"]))
        return sums

    def _allocate(self) -> Rollout:
        """Return a rollout of zeros; groups that share a tensor in the environment share one here."""
        env = self.env
        shape = (self.num_steps, env.num_envs)

        def zeros(*size: int) -> Tensor:
            return torch.zeros(*shape, *size, device=env.device)

        def flags() -> Tensor:
            return torch.zeros(shape, dtype=torch.bool, device=env.device)

        def observations() -> dict[str, Tensor]:
            policy = zeros(self.obs["policy"].shape[-1])
            is_shared = self.obs["critic"] is self.obs["policy"]
            critic = policy if is_shared else zeros(self.obs["critic"].shape[-1])
            return {"policy": policy, "critic": critic}

        return Rollout(
            obs=observations(),
            final_obs=observations(),
            actions=zeros(math.prod(env.single_action_space.shape or ())),
            rewards=zeros(),
            terminated=flags(),
            truncated=flags(),
            live=flags(),
            initial_state=torch.zeros_like(self.state),
        )

    def _extra(self, name: str, value: Tensor) -> Tensor:
        """Return the rollout's tensor for an extra of the policy, allocated when it first appears."""
        extras = self.rollout.extras
        if name not in extras:
            extras[name] = torch.zeros(self.num_steps, *value.shape, dtype=value.dtype, device=value.device)
        return extras[name]

    @staticmethod
    def _store(target: dict[str, Tensor], row: int, obs: dict[str, Tensor]) -> None:
        """Copy observation groups into a row of the rollout, shared ones once."""
        target["policy"][row] = obs["policy"]
        if target["critic"] is not target["policy"]:
            target["critic"][row] = obs["critic"]

    def _restart(self, state: Tensor, ended: Tensor) -> Tensor:
        """Return the policy's state with the initial one where an episode ended. Shape: (num_envs, state_size)."""
        if state.shape[-1] == 0:
            return state
        return torch.where(ended[:, None], self._initial_state, state)

    def _keep(self, obs: dict[str, Tensor], state: Tensor) -> None:
        """Copy what the next step starts from to fixed addresses, as CUDA graphs need it."""
        self.obs["policy"].copy_(obs["policy"])
        if self.obs["critic"] is not self.obs["policy"]:
            self.obs["critic"].copy_(obs["critic"])
        self.state.copy_(state)

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
        if not self.env.resumes_exactly:
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
        self._initial_state = self.policy.initial_state(num_envs)
        self.state = self._initial_state.clone()
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
