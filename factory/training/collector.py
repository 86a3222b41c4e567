"""Collection of rollouts: the policy acts, the environment steps, and the rollout fills up."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from factory.envs.core.outcomes import outcome_counts
from factory.envs.core.training_env import TrainingEnv
from factory.learners.rollout import Rollout
from factory.policies.base import Policy
from factory.runtime import device, distributed
from factory.runtime.graphs import Launcher, eager

Phase = Callable[[str], AbstractContextManager[Any]]
"""Enters a phase of the meter: `with phase("sim"):`."""

_NO_PHASE = nullcontext()
_STEP_SUMS = ("episodes", "return_sum", "length_sum", "nonfinite", "live_steps")
"""Sums that `_count` returns first, in this order."""
_KEPT_BAD_STEPS = 16
_KEPT_BAD_WORLDS = 8
"""Most worlds kept of a step in `Collector.bad_samples`."""


def no_phase(name: str) -> AbstractContextManager[None]:
    """Meter nothing."""
    return _NO_PHASE


@dataclass(kw_only=True)
class EpisodeStats:
    """Sums over the episodes that ended in a rollout, and over its steps.

    On the device until they are read.
    """

    sums: dict[str, Tensor]
    """`episodes` that ended soundly, their `return_sum` and `length_sum`; `nonfinite`, the steps with unsound
    values; `live_steps`; for each outcome the episodes that ended so, as `outcome/<name>`; for each metric of
    episodes its sum `metric/<name>` and the number of episodes that have it, `metric_count/<name>`.
    """
    reward_terms: Tensor
    """Mean of every reward term in a live control step. Shape: (num_terms,)."""


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
    bad_samples: deque[dict[str, Tensor]] = field(init=False)
    """The last steps with unsound values, in which worlds and what they were, to search for the cause.

    A GPU keeps none, since it would have to be asked for them.
    """
    sim_threads: int = field(init=False)
    """Torch threads for the arithmetic of the environment."""

    def __post_init__(self) -> None:
        """Start the first episodes and allocate the rollout."""
        self._sum_names = (
            *_STEP_SUMS,
            *(f"outcome/{name}" for name in self.env.outcome_names),
            *(f"metric/{name}" for name in self.env.episode_metrics),
            *(f"metric_count/{name}" for name in self.env.episode_metrics),
        )
        self._start()
        self.rollout = self._allocate()
        self.bad_samples = deque(maxlen=_KEPT_BAD_STEPS)

        # Small tensors are slower with more threads, so networks and environment get as many as they are
        # worth.
        num_envs = self.env.num_envs
        self._infer_threads = device.inference_threads(num_envs * self.policy.num_multiply_adds)
        self.sim_threads = device.elementwise_threads(self.obs["critic"].numel())

        if self.launcher is eager:
            self._launch = lambda: self.steps(self.phase)
        else:
            # A graph must know the generators, or every replay would draw the same numbers.
            generators = [self.policy.generator, self.env.generator]
            self._recorded = self.launcher(partial(self.steps, no_phase), generators)
            self._launch = self._launch_graph

    def collect(self) -> tuple[Rollout, EpisodeStats]:
        """Run `num_steps` control steps from where the last rollout ended."""
        values = distributed.all_reduce_sum_(self._launch())
        num_sums = len(self._sum_names)
        sums = dict(zip(self._sum_names, values[:num_sums], strict=True))
        # One tensor for all sums: processes add them up, and the loop fetches them, in one transfer.
        term_means = values[num_sums:] / sums["live_steps"].clamp(min=1.0)
        return self.rollout, EpisodeStats(sums=sums, reward_terms=term_means)

    def _launch_graph(self) -> Tensor:
        """Launch a whole rollout as a CUDA graph; phases within it cannot be told apart from here."""
        with self.phase("sim"):
            return self._recorded()

    def steps(self, phase: Phase) -> Tensor:
        """Fill the rollout operation by operation; return the sums of `_count` over its steps."""
        rollout = self.rollout
        rollout.initial_state.copy_(self.state)
        sums = torch.zeros(len(self._sum_names) + len(self.env.reward_terms), device=self.env.device)
        with device.torch_threads(self.sim_threads):
            for t in range(self.num_steps):
                with phase("infer"), device.torch_threads(self._infer_threads):
                    action, extras, state = self.policy.act(self.obs, self.state)
                self._store(rollout.obs, t, self.obs)
                with phase("sim"):
                    obs, reward, terminated, truncated, info = self.env.step(action)

                # Copied row by row into one rollout for all iterations, whose addresses a CUDA graph holds.
                rollout.actions[t] = action.view(len(action), -1)
                rollout.rewards[t] = reward
                rollout.terminated[t] = terminated
                rollout.truncated[t] = truncated
                # A step with unsound values is none to learn from, see `TrainingEnv`.
                live = info["live"] & ~info["nonfinite"]
                rollout.live[t] = live
                self._store(rollout.final_obs, t, groups(info.get("final_obs", obs)))
                for name, value in extras.items():
                    self._extra(name, value)[t] = value

                # A step that only reset the environment ran the policy on the old episode once more, so its
                # state restarts after such a step as well.
                ended = terminated | truncated
                sums += self._count(reward, ended, live, info)
                if "raw" in info and self.env.device.type == "cpu":
                    self._keep_bad_samples(t, action, info)
                self._keep(groups(obs), self._restart(state, ended | ~live))
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
            critic = policy
            if self.obs["critic"] is not self.obs["policy"]:
                critic = zeros(self.obs["critic"].shape[-1])
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
        """Return the policy's state with the initial one where an episode ended.

        Shape: (num_envs, state_size).
        """
        if state.shape[-1] == 0:
            return state
        return torch.where(ended[:, None], self._initial_state, state)

    def _keep(self, obs: dict[str, Tensor], state: Tensor) -> None:
        """Copy what the next step starts from to fixed addresses, as CUDA graphs need it."""
        self.obs["policy"].copy_(obs["policy"])
        if self.obs["critic"] is not self.obs["policy"]:
            self.obs["critic"].copy_(obs["critic"])
        self.state.copy_(state)

    def _keep_bad_samples(self, row: int, action: Tensor, info: dict[str, Any]) -> None:
        """Keep the first few worlds with unsound values in row `row` of the rollout."""
        worlds = info["nonfinite"].nonzero().flatten()[:_KEPT_BAD_WORLDS]
        raw = info["raw"]
        found = {
            "worlds": worlds,
            "action": action[worlds],
            "reward": raw["reward"][worlds],
            **{f"obs_before/{name}": group[worlds] for name, group in self.obs.items()},
            **{f"obs_after/{name}": group[worlds] for name, group in raw["obs"].items()},
        }
        self.bad_samples.append({"row": torch.tensor(row)} | {k: v.clone() for k, v in found.items()})

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
        obs = {name.removeprefix("obs/"): value for name, value in state.items() if name.startswith("obs/")}
        self._keep(obs, state["state"])
        self.episode_return.copy_(state["episode_return"])
        self.episode_length.copy_(state["episode_length"])

    def _start(self) -> None:
        """Start an episode in every environment."""
        on = self.env.device
        num_envs = self.env.num_envs
        raw_obs, _ = self.env.reset()
        obs = groups(raw_obs)

        # Groups that share a tensor go on sharing one, so that it is copied and normalised once.
        policy = obs["policy"].clone()
        critic = policy
        if obs["critic"] is not obs["policy"]:
            critic = obs["critic"].clone()
        self.obs = {"policy": policy, "critic": critic}
        self._initial_state = self.policy.initial_state(num_envs)
        self.state = self._initial_state.clone()
        self.episode_return = torch.zeros(num_envs, device=on)
        self.episode_length = torch.zeros(num_envs, device=on)

    def _count(self, reward: Tensor, done: Tensor, live: Tensor, info: dict[str, Any]) -> Tensor:
        """Return this step's sums in the order of `_sum_names`, then those of the reward terms.

        Shape: (num_sums + num_terms,).
        """
        # Episodes go on across rollouts; a step that only reset an environment belongs to none.
        self.episode_return += reward * live
        self.episode_length += live

        # The return of an episode that unsound values cut short says nothing about the policy.
        ended = (done & live).float()
        sums = torch.stack(
            [
                ended.sum(),
                (self.episode_return * ended).sum(),
                (self.episode_length * ended).sum(),
                info["nonfinite"].sum(),
                live.sum(),
            ]
        )
        # Its outcome counts all the same.
        over = done & info["live"]
        outcomes = outcome_counts(info["outcome"], over, num_outcomes=len(self.env.outcome_names))
        parts = [sums, outcomes]
        if self.env.episode_metrics:
            values = torch.stack([info["episode_metrics"][name] for name in self.env.episode_metrics])
            counted = over & ~values.isnan()
            parts += [torch.where(counted, values, 0.0).sum(-1), counted.sum(-1, dtype=torch.float32)]
        # Only now: the sums above need the totals of the episodes that ended.
        self.episode_return.masked_fill_(done, 0.0)
        self.episode_length.masked_fill_(done, 0.0)
        terms = info["reward_terms"]
        names = self.env.reward_terms
        if terms.shape[1] != len(names):
            raise ValueError(
                f"task: reward_terms names {len(names)} terms, but info['reward_terms'] has {terms.shape[1]} "
                "columns; give each term a name, in the same order"
            )
        parts.append((terms * live[:, None]).sum(0))
        return torch.cat(parts)


def groups(obs: Any) -> dict[str, Tensor]:
    """Return the observation groups `policy` and `critic`.

    A critic without a group of its own sees the policy's.
    """
    if not isinstance(obs, dict):
        return {"policy": obs, "critic": obs}
    if "critic" in obs:
        return obs
    return obs | {"critic": obs["policy"]}
