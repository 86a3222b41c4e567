"""Base classes of torch wrappers: state saved with the environment's, and the bounds of episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor

from factory.envs.core.observations import groups_of, unwrap_single_space
from factory.validation import require

Step = tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]
"""Results of `step`: observation, reward, terminated, truncated, info."""


class TorchWrapper(VectorWrapper):
    """A wrapper with a device and with state that is saved together with the environment's."""

    env: Any

    @property
    def device(self) -> torch.device:
        """Device of all tensors that come and go."""
        return self.env.device

    def _tensors(self) -> dict[str, Tensor]:
        """Return the wrapper's own state by name; the tensors themselves, not copies."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the wrapper's state, and under `env/` of the wrapped environment's."""
        # The prefix keeps the states of nested wrappers apart: `env/env/...` is two levels down.
        own = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return own | {f"env/{name}": tensor for name, tensor in self.env.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`; later steps repeat exactly."""
        for name, tensor in self._tensors().items():
            tensor.copy_(state[name])
        self.env.load_state_dict(
            {k.removeprefix("env/"): v for k, v in state.items() if k.startswith("env/")}
        )

    def _set_boxes(self, change: Callable[[Box], Box], groups: Sequence[str]) -> None:
        """Replace the spaces of the observation's `groups`."""
        spaces = dict(groups_of(self.env.single_observation_space))
        for name in groups:
            spaces[name] = change(spaces[name])
        self.single_observation_space = unwrap_single_space(spaces)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)


class EpisodeWrapper(TorchWrapper, ABC):
    """A wrapper whose state begins anew with every episode of a world."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])
        self._over = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all worlds, or those in `options["reset_mask"]`, and the wrapper's state for them alone."""
        obs, info = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        if mask is None:
            begun = torch.ones_like(self._over)
        else:
            begun = torch.as_tensor(mask, device=self.device)
        self._over.masked_fill_(begun, False)
        return self._begin(begun, obs), info

    @abstractmethod
    def _begin(self, begun: Tensor, obs: Any) -> Any:
        """Start the episodes of the worlds in `begun` (num_envs,) from `obs`; return their observations."""

    def _tensors(self) -> dict[str, Tensor]:
        return {"over": self._over}

    def _episodes(self, done: Tensor) -> tuple[Tensor, Tensor]:
        """Return the worlds whose step was part of an episode, and those that now show a first observation.

        A step that only resets (NEXT_STEP) is part of none, nor is one between an episode's end and
        the reset (DISABLED). Shapes: (num_envs,) -> two of (num_envs,).
        """
        # `_over` marks worlds between the end of an episode and the next reset.
        active = ~self._over
        if self._mode is AutoresetMode.SAME_STEP:
            begun = done
        elif self._mode is AutoresetMode.NEXT_STEP:
            begun = ~active
        else:
            begun = torch.zeros_like(done)
        self._over.copy_((self._over | done) & ~begun)
        return active, begun


def require_same_step(env: Any, library: str) -> None:
    """Raise ValueError unless finished worlds are reset in the same step, as `library` expects."""
    mode = AutoresetMode(env.metadata["autoreset_mode"])
    remedy = f"{library} expects AutoresetMode.SAME_STEP; pass it to the environment"
    require(mode is AutoresetMode.SAME_STEP, "autoreset_mode", mode, remedy)
