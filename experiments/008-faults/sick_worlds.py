"""Environments that fall ill in the middle of a training."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

SICKNESSES = {
    "NaN observation": ("observation", np.nan),
    "infinite observation": ("observation", np.inf),
    "observation of 1e35": ("observation", 1e35),
    "NaN reward": ("reward", np.nan),
    "infinite reward": ("reward", -np.inf),
    "reward of 1e35": ("reward", 1e35),
    "exception": ("exception", 0.0),
    "observation of another shape": ("shape", 0.0),
    "sleep": ("sleep", 0.0),
}
"""What happens -> where, and the value."""


class Sick(gymnasium.Env):
    """Follows a target on a line; from the 200th step of the process on, one sample in 150 is sick."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    steps = 0

    def __init__(self, place: str = "", value: float = 0.0) -> None:
        self.place = place
        self.value = value
        self.position = 0.0
        self.clock = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode anywhere near 0."""
        super().reset(seed=seed)
        self.position = float(self.np_random.uniform(-1, 1))
        self.clock = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move a little; end after 25 steps."""
        Sick.steps += 1
        self.clock += 1
        self.position += 0.1 * float(np.clip(action[0], -1, 1))
        reward = -abs(self.position)
        observation = self._observation()
        is_sick = Sick.steps > 200 and Sick.steps % 150 == 0
        if is_sick and self.place == "exception":
            raise RuntimeError("the wheel came off")
        if is_sick and self.place == "sleep":
            time.sleep(3600)
        if is_sick and self.place == "observation":
            observation[1] = self.value
        if is_sick and self.place == "shape":
            observation = np.zeros(5, np.float32)
        if is_sick and self.place == "reward":
            reward = self.value
        return observation, reward, False, self.clock == 25, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.position, 1.0, 0.1 * self.clock], dtype=np.float32)


for _name, (_place, _value) in SICKNESSES.items():
    gymnasium.register(
        id=f"sick/{_name.title().replace(' ', '')}-v0",
        entry_point="sick_worlds:Sick",
        kwargs={"place": _place, "value": _value},
    )


def env_id(sickness: str) -> str:
    """Return the id of an environment that has this sickness."""
    return f"sick_worlds:sick/{sickness.title().replace(' ', '')}-v0"
