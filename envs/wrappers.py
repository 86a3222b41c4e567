"""Wrappers of torch vector environments, named and meant as those of `gymnasium.wrappers.vector`.

They work in all three autoreset modes, transform `info["final_obs"]` too, and are graph-safe as `BatchEnv` is: state
lives in tensors that are written in place, and no step reads a tensor on the host. `docs/wrappers.md` says how they
differ from Gymnasium's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.utils import create_zero_array
from torch import Tensor, nn

from envs.boundary import Observation, checked_actions, groups_of, visible
from envs.task import require
from envs.torch_wrapper import EpisodeWrapper, Step, TorchWrapper


class RecordEpisodeStatistics(EpisodeWrapper):
    """Add return and length of every episode that ends: `info["episode"]["r"]` and `["l"]`, where `info["_episode"]`.

    Both are dense (num_envs,) and there in every step. `return_queue` and `length_queue` hold the last episodes;
    reading them waits for the device.
    """

    def __init__(self, env: Any, buffer_length: int = 100) -> None:
        """Wrap `env`; the queues hold the last `buffer_length` episodes."""
        require(buffer_length >= 1, "buffer_length", buffer_length, "must be at least 1")
        super().__init__(env)
        zeros = lambda size, dtype: torch.zeros(size, dtype=dtype, device=self.device)  # noqa: E731
        self.episode_returns = zeros(self.num_envs, torch.float32)
        self.episode_lengths = zeros(self.num_envs, torch.int64)
        self.episode_count = zeros((), torch.int64)
        # Rings with a spare last row, for the worlds that have nothing to write.
        self._returns = zeros(buffer_length + 1, torch.float32)
        self._lengths = zeros(buffer_length + 1, torch.int64)

    def step(self, actions: Any) -> Step:
        """Step, and add the statistics of the episodes that ended."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        done = terminated | truncated
        active, begun = self._episodes(done)
        ended = done & active
        self.episode_returns += reward
        self.episode_lengths += 1
        self._remember(ended)
        episode = {"r": self.episode_returns * ended, "l": self.episode_lengths * ended}
        obs = self._begin(begun, obs)
        return obs, reward, terminated, truncated, info | {"episode": episode, "_episode": ended}

    @property
    def return_queue(self) -> Tensor:
        """Returns of the last episodes, oldest first. Shape: (at most buffer_length,)."""
        return self._last(self._returns)

    @property
    def length_queue(self) -> Tensor:
        """Lengths of the last episodes, oldest first [control steps]. Shape: (at most buffer_length,)."""
        return self._last(self._lengths)

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        self.episode_returns.masked_fill_(begun, 0.0)
        self.episode_lengths.masked_fill_(begun, 0)
        return obs

    def _remember(self, ended: Tensor) -> None:
        size = self._returns.numel() - 1
        rank = ended.cumsum(0)
        # No row but the spare one is written twice: a GPU would not say in which order.
        kept = ended & (rank > rank[-1] - size)
        row = torch.where(kept, (self.episode_count + rank - 1) % size, size)
        self._returns.scatter_(0, row, self.episode_returns)
        self._lengths.scatter_(0, row, self.episode_lengths)
        self.episode_count += rank[-1]

    def _last(self, ring: Tensor) -> Tensor:
        count, size = int(self.episode_count), ring.numel() - 1
        return ring[:-1].roll(-(count % size)) if count > size else ring[:count].clone()

    def _tensors(self) -> dict[str, Tensor]:
        names = ("episode_returns", "episode_lengths", "episode_count", "_returns", "_lengths")
        return super()._tensors() | {name: getattr(self, name) for name in names}


class RunningMeanStd(nn.Module):
    """Mean and variance of all rows seen (Chan et al. 1979, parallel update), in float64."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...], *, device: torch.device) -> None:
        """Start at mean 0, variance 1 and a count of 1e-4, as Gymnasium does."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64, device=device))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64, device=device))
        self.register_buffer("count", torch.full((), 1e-4, dtype=torch.float64, device=device))

    def update(self, rows: Tensor, mask: Tensor) -> None:
        """Take in the rows in `mask`. Shapes: (num_rows, *shape), (num_rows,)."""
        mask = mask.reshape(-1, *[1] * self.mean.dim())
        rows = torch.where(mask, rows, 0.0).double()
        new = mask.sum()
        mean = rows.sum(0) / new.clamp(min=1)
        var = torch.where(mask, rows - mean, 0.0).square().sum(0) / new.clamp(min=1)
        delta, share = mean - self.mean, new / (self.count + new)
        self.mean += delta * share
        self.var.copy_((1 - share) * self.var + share * var + share * (1 - share) * delta.square())
        self.count += new


class NormalizeObservation(EpisodeWrapper):
    """Standardise every observation group by its running mean and variance, `obs_rms[group]`.

    For evaluation share the statistics and freeze them: `eval_env.obs_rms = env.obs_rms`,
    `eval_env.update_running_mean = False`.
    """

    def __init__(self, env: Any, epsilon: float = 1e-8) -> None:
        """Wrap `env`; `epsilon` is added to the variance."""
        require(epsilon > 0, "epsilon", epsilon, "must be positive")
        super().__init__(env)
        self.epsilon = epsilon
        self.update_running_mean = True
        spaces = groups_of(env.single_observation_space)
        self._set_boxes(lambda box: Box(-np.inf, np.inf, box.shape, np.float32), list(spaces))
        self.obs_rms = {name: RunningMeanStd(box.shape, device=self.device) for name, box in spaces.items()}

    def step(self, actions: Any) -> Step:
        """Step, take in what was observed (a final observation too), and standardise it."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        active, begun = self._episodes(terminated | truncated)
        self._update(info.get("final_obs", obs), active | begun)
        if "final_obs" in info:
            self._update(obs, begun)
            info = info | {"final_obs": self._normalized(info["final_obs"])}
        return self._normalized(obs), reward, terminated, truncated, info

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        self._update(obs, begun)
        return self._normalized(obs)

    def _update(self, obs: Any, mask: Tensor) -> None:
        if self.update_running_mean:
            for name, group in groups_of(obs).items():
                self.obs_rms[name].update(group, mask)

    def _normalized(self, obs: Any) -> Any:
        def normalized(group: Tensor, rms: RunningMeanStd) -> Tensor:
            return (group - rms.mean.float()) * (rms.var + self.epsilon).rsqrt().float()

        return visible({name: normalized(group, self.obs_rms[name]) for name, group in groups_of(obs).items()})

    def _tensors(self) -> dict[str, Tensor]:
        rms = {f"obs_rms/{k}.{name}": v for k, rms in self.obs_rms.items() for name, v in rms.state_dict().items()}
        return super()._tensors() | rms


class NormalizeReward(EpisodeWrapper):
    """Divide rewards by the running standard deviation of the discounted return."""

    def __init__(self, env: Any, gamma: float = 0.99, epsilon: float = 1e-8) -> None:
        """Wrap `env`; `gamma` is the discount factor, `epsilon` is added to the variance."""
        require(0 <= gamma <= 1, "gamma", gamma, "must be within [0, 1]")
        require(epsilon > 0, "epsilon", epsilon, "must be positive")
        super().__init__(env)
        self.gamma = gamma
        self.epsilon = epsilon
        self.update_running_mean = True
        self.return_rms = RunningMeanStd((), device=self.device)
        self.accumulated_reward = torch.zeros(self.num_envs, device=self.device)

    def step(self, actions: Any) -> Step:
        """Step, follow the discounted returns, and scale the rewards."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        active, begun = self._episodes(terminated | truncated)
        self.accumulated_reward.copy_(self.accumulated_reward * self.gamma * ~terminated + reward)
        if self.update_running_mean:
            self.return_rms.update(self.accumulated_reward, active)
        obs = self._begin(begun, obs)
        scale = (self.return_rms.var + self.epsilon).rsqrt().float()
        return obs, reward * scale, terminated, truncated, info

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        self.accumulated_reward.masked_fill_(begun, 0.0)
        return obs

    def _tensors(self) -> dict[str, Tensor]:
        rms = {f"return_rms/{name}": value for name, value in self.return_rms.state_dict().items()}
        return super()._tensors() | rms | {"accumulated_reward": self.accumulated_reward}


class HistoryObservation(EpisodeWrapper):
    """Show the last `length` observations of some groups: (num_envs, length * size), the oldest first.

    An episode's first observation stands for those before it. `obs.unflatten(-1, (length, size))` separates them.
    """

    def __init__(self, env: Any, length: int, groups: Sequence[str] = ("policy",)) -> None:
        """Wrap `env`; groups not in `groups` (by default the critic's) stay as they are."""
        require(length >= 1, "length", length, "must be at least 1")
        known = groups_of(env.single_observation_space)
        require(set(groups) <= set(known), "groups", groups, f"choose among {', '.join(known)}")
        super().__init__(env)
        self._set_boxes(lambda box: Box(np.tile(box.low, length), np.tile(box.high, length), dtype=np.float32), groups)
        self._frames = {
            name: torch.zeros(self.num_envs, length, *known[name].shape, device=self.device) for name in groups
        }

    def step(self, actions: Any) -> Step:
        """Step, and push the new observation into every running world's history."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        _, begun = self._episodes(terminated | truncated)
        if "final_obs" in info:
            info = info | {"final_obs": self._stacked(info["final_obs"], self._pushed(info["final_obs"]))}
        for name, pushed in self._pushed(obs).items():
            self._frames[name].copy_(pushed)
        return self._begin(begun, obs), reward, terminated, truncated, info

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        groups, mask = groups_of(obs), begun[:, None, None]
        for name, frames in self._frames.items():
            frames.copy_(torch.where(mask, groups[name][:, None], frames))
        return self._stacked(obs, {name: frames.clone() for name, frames in self._frames.items()})

    def _pushed(self, obs: Any) -> Observation:
        groups = groups_of(obs)
        return {name: torch.cat([old[:, 1:], groups[name][:, None]], 1) for name, old in self._frames.items()}

    def _stacked(self, obs: Any, frames: Observation) -> Any:
        return visible(groups_of(obs) | {name: value.flatten(1) for name, value in frames.items()})

    def _tensors(self) -> dict[str, Tensor]:
        return super()._tensors() | {f"frames/{name}": frames for name, frames in self._frames.items()}


class ClipAction(TorchWrapper):
    """Clip actions to the environment's bounds; the action space becomes unbounded."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        box = env.single_action_space
        self._low, self._high = (torch.as_tensor(bound, device=self.device) for bound in (box.low, box.high))
        self.single_action_space = Box(-np.inf, np.inf, box.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def step(self, actions: Any) -> Step:
        """Step with the clipped actions."""
        return self.env.step(checked_actions(self, actions).clamp(self._low, self._high))


class RescaleAction(TorchWrapper):
    """Map actions in [min_action, max_action] affinely to the environment's bounds, without clipping."""

    def __init__(self, env: Any, min_action: float | np.ndarray, max_action: float | np.ndarray) -> None:
        """Wrap `env`, whose action space must be bounded; bounds are scalars or of a single action's shape."""
        super().__init__(env)
        box = env.single_action_space
        low, high = (np.broadcast_to(np.float32(bound), box.shape) for bound in (min_action, max_action))
        require(box.is_bounded(), "env", env, "has unbounded actions; put RescaleAction inside ClipAction")
        require(bool((low < high).all()), "min_action", min_action, f"must be below max_action={max_action}")
        scale = (box.high - box.low) / (high - low)
        self._scale = torch.as_tensor(scale, device=self.device)
        self._offset = torch.as_tensor(box.low - low * scale, device=self.device)
        self.single_action_space = Box(low, high, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def step(self, actions: Any) -> Step:
        """Step with the rescaled actions."""
        return self.env.step(torch.addcmul(self._offset, checked_actions(self, actions), self._scale))


class ActionDelay(EpisodeWrapper):
    """Let an action reach the environment some control steps late, as a real robot's latency does.

    Until an episode's first action arrives, the environment gets zeros (or what its bounds have nearest to zero).
    `delay` (num_envs,) holds every world's delay [control steps].
    """

    def __init__(self, env: Any, delay: int | tuple[int, int]) -> None:
        """Wrap `env`; `delay` is a constant, or (low, high): drawn from both ends included at every reset."""
        super().__init__(env)
        self._range = delay if isinstance(delay, tuple) else (delay, delay)
        low, high = self._range
        require(0 <= low <= high, "delay", delay, "must be an integer >= 0, or a pair of such, the lower one first")
        self.delay = torch.full((self.num_envs,), low, device=self.device)
        self._neutral = torch.as_tensor(create_zero_array(env.action_space), device=self.device)
        self._queue = self._neutral.repeat(high + 1, 1, 1)

    def step(self, actions: Any) -> Step:
        """Step with the actions given `delay` steps ago."""
        self._queue.copy_(torch.cat([checked_actions(self, actions)[None], self._queue[:-1]]))
        late = self._queue.gather(0, self.delay[None, :, None].expand_as(self._queue[:1]))[0]
        obs, reward, terminated, truncated, info = self.env.step(late)
        _, begun = self._episodes(terminated | truncated)
        return self._begin(begun, obs), reward, terminated, truncated, info

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        low, high = self._range
        self._queue.copy_(torch.where(begun[:, None], self._neutral, self._queue))
        if low < high:
            generator = self.env.unwrapped.generator  # the environment's, so that one seed is enough
            drawn = torch.randint(low, high + 1, self.delay.shape, generator=generator, device=self.device)
            self.delay.copy_(torch.where(begun, drawn, self.delay))
        return obs

    def _tensors(self) -> dict[str, Tensor]:
        return super()._tensors() | {"delay": self.delay, "queue": self._queue}


class ToNumpy(VectorWrapper):
    """Speak numpy as Gymnasium's own vector environments do, for loops and wrappers written for them.

    Rewards are float64. An info key with a mask (`final_obs`, `episode`) is there only when the mask selects a world,
    and `final_obs` is an array of objects: an observation a finished world, None for the others.
    """

    env: Any

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset as the wrapped environment does."""
        obs, info = self.env.reset(seed=seed, options=options)
        return _numpy(obs), self._info(info)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step with numpy actions (num_envs, action_size)."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return _numpy(obs), _numpy(reward.double()), _numpy(terminated), _numpy(truncated), self._info(info)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        info = _numpy(info)
        for key in [key for key in info if f"_{key}" in info and not info[f"_{key}"].any()]:
            del info[key], info[f"_{key}"]
        if "final_obs" in info:
            info["final_obs"] = self._objects(info["final_obs"], info["_final_obs"])
        return info

    def _objects(self, obs: Any, mask: np.ndarray) -> np.ndarray:
        rows = np.full(self.num_envs, None, dtype=object)
        for world in mask.nonzero()[0]:
            rows[world] = {k: v[world] for k, v in obs.items()} if isinstance(obs, dict) else obs[world]
        return rows


def _numpy(value: Any) -> Any:
    """Turn nested tensors into numpy arrays."""
    if isinstance(value, dict):
        return {key: _numpy(item) for key, item in value.items()}
    return value.numpy(force=True) if isinstance(value, Tensor) else value
