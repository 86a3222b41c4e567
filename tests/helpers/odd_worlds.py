"""Small environments that show what a well-behaved one does not."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    """Counts its steps: nested observations, one of three actions, and an episode of `length` steps.

    The reward is 1 for the choice 5, the first of three. What happens at step `when` is `event`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
    action_space = spaces.Discrete(3, start=5)
    observation_space = spaces.Dict(
        {
            "clock": spaces.Box(-np.inf, np.inf, (1,)),
            "inner": spaces.Dict({"last": spaces.Discrete(3, start=5)}),
        }
    )

    def __init__(
        self, length: int = 6, event: str = "", when: int = 3, render_mode: str | None = None
    ) -> None:
        self.length, self.event, self.when, self.render_mode = length, event, when, render_mode
        self.clock, self.last = 0, 5

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock, self.last = 0, 5
        if self.event == "no_start":
            raise RuntimeError("the key\nis lost")
        return self._get_observations(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock, self.last = self.clock + 1, int(action)
        assert self.action_space.contains(self.last)
        if self.clock == self.when:
            self._happen()
        ended = self.clock == self.length
        info = {"is_success": ended and self.last == 5} if self.event == "success" else {}
        is_fortunate = self.event == "fortune" and self.clock == self.when
        reward = 1e35 if is_fortunate else float(self.last == 5)
        return self._get_observations(), reward, ended, False, info

    def render(self) -> np.ndarray:
        return np.full((33, 49, 3), min(20 * self.clock, 255), dtype=np.uint8)

    def _happen(self) -> None:
        if self.event == "error":
            raise RuntimeError("the wheel\ncame off")
        if self.event == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.event == "hang":
            time.sleep(600.0)

    def _get_observations(self) -> dict[str, Any]:
        clock = np.nan if self.event == "nan" and self.clock == self.when else self.clock
        return {"clock": np.array([clock], dtype=np.float32), "inner": {"last": self.last}}


class Blind(Odd):
    """Sees pictures."""

    observation_space = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)})


class ManyHanded(Odd):
    """Acts in a space no policy has."""

    action_space = spaces.MultiDiscrete([2, 2])


def register() -> None:
    """Put them into Gymnasium's registry: `odd/Odd-v0` and so on, and one with a time limit and a
    threshold.
    """
    for env in (Odd, Blind, ManyHanded):
        if f"odd/{env.__name__}-v0" not in gymnasium.registry:
            gymnasium.register(id=f"odd/{env.__name__}-v0", entry_point=env)
    if "odd/Limited-v0" not in gymnasium.registry:
        gymnasium.register(id="odd/Limited-v0", entry_point=Odd, max_episode_steps=4, reward_threshold=3.0)


register()
