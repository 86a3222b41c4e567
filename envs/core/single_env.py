"""One world of a batched task as Gymnasium's ordinary environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

if TYPE_CHECKING:
    from factory.envs.core.episode_env import EpisodeEnv


class SingleEnv(gymnasium.Env):
    """One world of a batched task as an ordinary numpy `gymnasium.Env` (for `gymnasium.make` and SB3)."""

    def __init__(self, batch_env: EpisodeEnv) -> None:
        """Wrap `batch_env`, which must have one world and `AutoresetMode.DISABLED`."""
        if batch_env.num_envs != 1 or batch_env.autoreset_mode is not AutoresetMode.DISABLED:
            raise ValueError("SingleEnv needs num_envs=1 and autoreset_mode=DISABLED")
        self.batch_env = batch_env
        self.observation_space = batch_env.single_observation_space
        self.action_space = batch_env.single_action_space
        self.render_mode = batch_env.render_mode
        self.metadata = {key: batch_env.metadata[key] for key in ("render_modes", "render_fps")}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a new episode."""
        super().reset(seed=seed)
        obs, info = self.batch_env.reset(seed=seed, options=options)
        return _first(obs), _first(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one control step. Shape of `action`: (action_size,)."""
        obs, reward, terminated, truncated, info = self.batch_env.step(torch.as_tensor(action)[None])
        info = _first(info)
        if "episode_metrics" in info:
            # NaN is not equal to itself, as Gymnasium expects of an info.
            metrics = info["episode_metrics"].items()
            info["episode_metrics"] = {name: value for name, value in metrics if not np.isnan(value)}
        return _first(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """Return an RGB frame (480, 640, 3) uint8."""
        frames = self.batch_env.render()
        if frames is None:
            return None
        return frames[0]

    def close(self) -> None:
        """Close the wrapped environment."""
        self.batch_env.close()


def _first(value: Any) -> Any:
    """Return world 0 of nested tensors as numpy."""
    if isinstance(value, dict):
        return {key: _first(item) for key, item in value.items()}
    # `force` also fetches it from a GPU; the copy is the caller's own.
    return value[0].numpy(force=True).copy()
