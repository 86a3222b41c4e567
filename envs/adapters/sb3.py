from __future__ import annotations

from typing import Any

from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn

from factory.envs.core.observations import groups_of
from factory.envs.wrappers import ToNumpy
from factory.envs.wrappers.base import require_same_step


class Sb3VecEnv(VecEnv):
    """A torch vector environment as a stable-baselines3 `VecEnv`; the policy observes the group `policy`."""

    def __init__(self, env: Any) -> None:
        require_same_step(env, "stable-baselines3")
        self.env: Any = DictInfoToList(ToNumpy(env))
        super().__init__(
            env.num_envs, groups_of(env.single_observation_space)["policy"], env.single_action_space
        )

    def reset(self) -> VecEnvObs:
        """Start new episodes in all worlds, with the seed given to `seed()` since the last reset."""
        obs, self.reset_infos = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return groups_of(obs)["policy"]

    def step_async(self, actions: Any) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step; the infos of finished worlds hold what stable-baselines3 bootstraps and logs with."""
        obs, reward, terminated, truncated, infos = self.env.step(self._actions)
        # In SAME_STEP mode `obs` belongs to the next episode; bootstrapping needs the last one of the old.
        for world in (terminated | truncated).nonzero()[0]:
            infos[world]["terminal_observation"] = groups_of(infos[world]["final_obs"])["policy"]
            infos[world]["TimeLimit.truncated"] = bool(truncated[world])
        return groups_of(obs)["policy"], reward.astype("float32"), terminated | truncated, infos

    def get_images(self) -> list[Any]:
        """Return one frame a world."""
        return list(self.env.render())

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the innermost environment, which all worlds share."""
        return [getattr(self.env.unwrapped, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the innermost environment."""
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the innermost environment once; return its result for each of `indices`."""
        return [getattr(self.env.unwrapped, method_name)(*args, **kwargs)] * len(
            [*self._get_indices(indices)]
        )

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for every world: none has a wrapper of its own."""
        return [False for _ in self._get_indices(indices)]
