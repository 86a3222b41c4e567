"""The boundary to libraries that need numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper
from torch import Tensor


class ToNumpy(VectorWrapper):
    """Exchange numpy arrays like Gymnasium's own vector environments, for loops and wrappers made for them.

    Rewards are float64. An info key with a mask (`final_obs`, `episode`) exists only when the mask selects a
    world, and `final_obs` is an array of objects: observations of finished worlds, None for the others.
    """

    env: Any

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset as the wrapped environment does."""
        obs, info = self.env.reset(seed=seed, options=options)
        return _numpy(obs), self._info(info)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step with numpy actions (num_envs, action_size)."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return _numpy(obs), _numpy(reward.double()), _numpy(terminated), _numpy(truncated), self._info(info)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        info = _numpy(info)
        # Gymnasium's wrappers take the presence of a key as the sign that some episode ended.
        for key in [key for key in info if f"_{key}" in info and not info[f"_{key}"].any()]:
            del info[key], info[f"_{key}"]
        if "final_obs" in info:
            info["final_obs"] = self._objects(info["final_obs"], info["_final_obs"])
        return info

    def _objects(self, obs: Any, mask: np.ndarray) -> np.ndarray:
        rows = np.full(self.num_envs, None, dtype=object)
        for world in mask.nonzero()[0]:
            if isinstance(obs, dict):
                rows[world] = {name: group[world] for name, group in obs.items()}
            else:
                rows[world] = obs[world]
        return rows


def _numpy(value: Any) -> Any:
    """Turn nested tensors into numpy arrays."""
    if isinstance(value, dict):
        return {key: _numpy(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return value.numpy(force=True)
    return value
