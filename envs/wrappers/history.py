"""Stacked observations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.observations import Observation, groups_of, unwrap_single_group
from factory.envs.wrappers.base import EpisodeWrapper, Step
from factory.validation import require


class HistoryObservation(EpisodeWrapper):
    """Show the last `length` observations of some groups: (num_envs, length * size), the oldest first.

    The first observation of an episode also fills the places before it. `obs.unflatten(-1, (length, size))`
    separates them.
    """

    def __init__(self, env: Any, length: int, groups: Sequence[str] = ("policy",)) -> None:
        """Wrap `env`; groups not in `groups` (by default the critic's) stay as they are."""
        require(length >= 1, "length", length, "must be at least 1")
        known = groups_of(env.single_observation_space)
        require(set(groups) <= set(known), "groups", groups, f"choose among {', '.join(known)}")
        super().__init__(env)
        self._set_boxes(
            lambda box: Box(np.tile(box.low, length), np.tile(box.high, length), dtype=np.float32), groups
        )
        self._frames = {
            name: torch.zeros(self.num_envs, length, *known[name].shape, device=self.device)
            for name in groups
        }

    def step(self, actions: Any) -> Step:
        """Step, and push the new observation into every running world's history."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        # Worlds whose `obs` is the first of a new episode.
        _, begun = self._episodes(terminated | truncated)
        # The final observation belongs to the old history, `obs` of a finished world to the next one.
        if "final_obs" in info:
            info = info | {"final_obs": self._stacked(info["final_obs"], self._pushed(info["final_obs"]))}
        for name, pushed in self._pushed(obs).items():
            self._frames[name].copy_(pushed)
        return self._begin(begun, obs), reward, terminated, truncated, info

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        groups = groups_of(obs)
        # New episodes begin with copies of their first observation.
        mask = begun[:, None, None]
        for name, frames in self._frames.items():
            frames.copy_(torch.where(mask, groups[name][:, None], frames))
        return self._stacked(obs, {name: frames.clone() for name, frames in self._frames.items()})

    def _pushed(self, obs: Any) -> Observation:
        groups = groups_of(obs)
        return {name: torch.cat([old[:, 1:], groups[name][:, None]], 1) for name, old in self._frames.items()}

    def _stacked(self, obs: Any, frames: Observation) -> Any:
        return unwrap_single_group(
            groups_of(obs) | {name: value.flatten(1) for name, value in frames.items()}
        )

    def _tensors(self) -> dict[str, Tensor]:
        return super()._tensors() | {f"frames/{name}": frames for name, frames in self._frames.items()}
