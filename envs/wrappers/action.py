"""Actions: clipped, rescaled and delayed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.utils import create_zero_array
from torch import Tensor

from factory.envs.core.observations import checked_actions
from factory.envs.wrappers.base import EpisodeWrapper, Step, TorchWrapper
from factory.validation import require


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
        """Wrap `env`, which needs bounded actions; bounds are scalars or have a single action's shape."""
        super().__init__(env)
        box = env.single_action_space
        low, high = (np.broadcast_to(np.float32(bound), box.shape) for bound in (min_action, max_action))
        require(box.is_bounded(), "env", env, "has unbounded actions; put RescaleAction inside ClipAction")
        require(bool((low < high).all()), "min_action", min_action, f"must be below max_action={max_action}")
        # action = box.low + (given - low) * scale
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

    Until an episode's first action arrives, the environment gets zeros (or what its bounds have nearest to
    zero). `delay` (num_envs,) holds every world's delay [control steps].
    """

    def __init__(self, env: Any, delay: int | tuple[int, int]) -> None:
        """Wrap `env`; `delay` is a constant, or (low, high): drawn from both ends included at every reset."""
        super().__init__(env)
        if isinstance(delay, tuple):
            self._range = delay
        else:
            self._range = (delay, delay)
        low, high = self._range
        require(
            0 <= low <= high,
            "delay",
            delay,
            "must be an integer >= 0, or a pair of such, the lower one first",
        )
        self.delay = torch.full((self.num_envs,), low, device=self.device)
        self._neutral = torch.as_tensor(create_zero_array(env.action_space), device=self.device)
        self._queue = self._neutral.repeat(high + 1, 1, 1)

    def step(self, actions: Any) -> Step:
        """Step with the actions given `delay` steps ago."""
        # Row d of the queue holds the actions given d steps ago.
        self._queue.copy_(torch.cat([checked_actions(self, actions)[None], self._queue[:-1]]))
        late = self._queue.gather(0, self.delay[None, :, None].expand_as(self._queue[:1]))[0]
        obs, reward, terminated, truncated, info = self.env.step(late)
        _, begun = self._episodes(terminated | truncated)
        return self._begin(begun, obs), reward, terminated, truncated, info

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        low, high = self._range
        self._queue.copy_(torch.where(begun[:, None], self._neutral, self._queue))
        if low < high:
            # The generator of the environment, so that one seed is enough.
            generator = self.env.unwrapped.generator
            drawn = torch.randint(low, high + 1, self.delay.shape, generator=generator, device=self.device)
            self.delay.copy_(torch.where(begun, drawn, self.delay))
        return obs

    def _tensors(self) -> dict[str, Tensor]:
        return super()._tensors() | {"delay": self.delay, "queue": self._queue}
