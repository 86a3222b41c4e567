"""Episode statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from factory.envs.wrappers.base import EpisodeWrapper, Step
from factory.validation import require


class RecordEpisodeStatistics(EpisodeWrapper):
    """Add return and length of every episode that ends.

    They are `info["episode"]["r"]` and `["l"]`, valid where `info["_episode"]`. Both are dense (num_envs,)
    and there in every step. `return_queue` and `length_queue` hold the last episodes; reading them waits for
    the device.
    """

    def __init__(self, env: Any, buffer_length: int = 100) -> None:
        """Wrap `env`; the queues hold the last `buffer_length` episodes."""
        require(buffer_length >= 1, "buffer_length", buffer_length, "must be at least 1")
        super().__init__(env)
        zeros = lambda size, dtype: torch.zeros(size, dtype=dtype, device=self.device)  # noqa: E731
        self.episode_returns = zeros(self.num_envs, torch.float32)
        self.episode_lengths = zeros(self.num_envs, torch.int64)
        self.episode_count = zeros((), torch.int64)
        # Rings with a spare last row, for the worlds that have nothing to write.
        self._returns = zeros(buffer_length + 1, torch.float32)
        self._lengths = zeros(buffer_length + 1, torch.int64)

    def step(self, actions: Any) -> Step:
        """Step, and add the statistics of the episodes that ended."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        done = terminated | truncated
        active, begun = self._episodes(done)
        ended = done & active
        self.episode_returns += reward
        self.episode_lengths += 1
        self._remember(ended)
        episode = {"r": self.episode_returns * ended, "l": self.episode_lengths * ended}
        obs = self._begin(begun, obs)
        return obs, reward, terminated, truncated, info | {"episode": episode, "_episode": ended}

    @property
    def return_queue(self) -> Tensor:
        """Returns of the last episodes, oldest first. Shape: (at most buffer_length,)."""
        return self._last(self._returns)

    @property
    def length_queue(self) -> Tensor:
        """Lengths of the last episodes, oldest first [control steps]. Shape: (at most buffer_length,)."""
        return self._last(self._lengths)

    def _begin(self, begun: Tensor, obs: Any) -> Any:
        self.episode_returns.masked_fill_(begun, 0.0)
        self.episode_lengths.masked_fill_(begun, 0)
        return obs

    def _remember(self, ended: Tensor) -> None:
        size = self._returns.numel() - 1
        rank = ended.cumsum(0)
        # No row but the spare one is written twice: a GPU would not say in which order.
        kept = ended & (rank > rank[-1] - size)
        row = torch.where(kept, (self.episode_count + rank - 1) % size, size)
        self._returns.scatter_(0, row, self.episode_returns)
        self._lengths.scatter_(0, row, self.episode_lengths)
        self.episode_count += rank[-1]

    def _last(self, ring: Tensor) -> Tensor:
        count = int(self.episode_count)
        size = ring.numel() - 1
        if count > size:
            return ring[:-1].roll(-(count % size))
        return ring[:count].clone()

    def _tensors(self) -> dict[str, Tensor]:
        names = ("episode_returns", "episode_lengths", "episode_count", "_returns", "_lengths")
        return super()._tensors() | {name: getattr(self, name) for name in names}
