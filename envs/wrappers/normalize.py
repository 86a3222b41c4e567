"""Normalisation by running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from factory.envs.core.observations import groups_of, unwrap_single_group
from factory.envs.wrappers.base import EpisodeWrapper, Step
from factory.validation import require


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
        """Update the statistics with the rows in `mask`. Shapes: (num_rows, *shape), (num_rows,)."""
        # Masked sums instead of selected rows: their shapes are fixed, as CUDA graphs require.
        mask = mask.reshape(-1, *[1] * self.mean.dim())
        rows = torch.where(mask, rows, 0.0).double()
        # Clamped below, so that a step without a row changes nothing and divides by nothing.
        new = mask.sum()
        mean = rows.sum(0) / new.clamp(min=1)
        var = torch.where(mask, rows - mean, 0.0).square().sum(0) / new.clamp(min=1)
        # Moments of the union of old and new rows, with the share s of the new ones:
        # mean' = mean + s d,  var' = (1 - s) var + s var_new + s (1 - s) d^2,  d = mean_new - mean
        delta = mean - self.mean
        share = new / (self.count + new)
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
        """Step, update the statistics with all observations (final ones too), and standardise them."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        active, begun = self._episodes(terminated | truncated)
        # Every observation of an episode counts once: its last is in `final_obs`, where there is one.
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

        return unwrap_single_group(
            {name: normalized(group, self.obs_rms[name]) for name, group in groups_of(obs).items()}
        )

    def _tensors(self) -> dict[str, Tensor]:
        rms = {
            f"obs_rms/{k}.{name}": v
            for k, rms in self.obs_rms.items()
            for name, v in rms.state_dict().items()
        }
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
        # R' = gamma R + r, starting anew after a terminal state; the spread of R is the scale of the rewards.
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
