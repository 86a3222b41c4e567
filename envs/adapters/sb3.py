"""Batched environments for stable-baselines3."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from envs.task import require
from envs.torch_wrapper import groups_of
from envs.wrappers import ToNumpy


class Sb3VecEnv(VecEnv):
    """A torch vector environment as a stable-baselines3 `VecEnv`, for example `PPO("MlpPolicy", Sb3VecEnv(env))`.

    The policy sees the `policy` group. Wrap `env` in `RecordEpisodeStatistics` first to have `rollout/ep_rew_mean`.
    """

    def __init__(self, env: VectorEnv) -> None:
        """Adapt `env`, which must reset finished worlds in the same step."""
        mode = AutoresetMode(env.metadata["autoreset_mode"])
        require(mode is AutoresetMode.SAME_STEP, "autoreset_mode", mode.value, "stable-baselines3 needs SameStep")
        self.env = ToNumpy(env)
        space = groups_of(env.single_observation_space)["policy"]
        super().__init__(env.num_envs, space, env.single_action_space)

    def reset(self) -> np.ndarray:
        """Start new episodes in all worlds, with the seed given to `seed()` last."""
        obs, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return groups_of(obs)["policy"]

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step; the infos of finished worlds hold what stable-baselines3 bootstraps and logs with."""
        obs, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in done]
        for world in done.nonzero()[0]:
            infos[world]["terminal_observation"] = groups_of(info["final_obs"][world])["policy"]
            infos[world]["TimeLimit.truncated"] = bool(truncated[world])
            if "success" in info:
                infos[world]["is_success"] = bool(info["success"][world])
            if "episode" in info:
                infos[world]["episode"] = {key: value[world].item() for key, value in info["episode"].items()}
        return groups_of(obs)["policy"], reward.astype(np.float32), done, infos

    def get_images(self) -> list[np.ndarray]:
        """Return one frame a world."""
        return list(self.env.render() or ())

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environment, which all worlds share, once for each of `indices`."""
        return [getattr(self._owner(attr_name), attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment, for all worlds."""
        setattr(self._owner(attr_name), attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environment once; return its result for each of `indices`."""
        result = getattr(self._owner(method_name), method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Say that no world has a wrapper of its own."""
        return [False for _ in self._get_indices(indices)]

    def _owner(self, name: str) -> Any:
        env: Any = self.env
        while not hasattr(env, name) and env is not env.unwrapped:
            env = env.env
        return env
