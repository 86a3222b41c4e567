"""A lidar in all worlds, with noise and a memory of the last scans.

Sizes: N environments, L beams.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from factory.envs.physics.base import Physics
from factory.envs.tasks.amr.robot import LAG_STEPS, NUM_BEAMS, RANGE_M
from factory.envs.tasks.amr.scene import LIDAR_HEIGHT_M
from factory.envs.tasks.amr.table import EpisodeSet


class Lidar:
    """Scans of all worlds; beams begin at the heading and go round to the left."""

    def __init__(self, physics: Physics) -> None:
        """Prepare the beams."""
        self._physics = physics
        # Rays meet geoms, whose places Warp brings up to date at a reset only if they were asked for.
        physics.field("geom_xpos")
        num_envs = physics.num_envs
        device = physics.device
        angle = torch.arange(NUM_BEAMS, device=device) * (math.tau / NUM_BEAMS)
        self._beams = torch.stack([angle.cos(), angle.sin()])
        self._origins = torch.zeros(num_envs, NUM_BEAMS, 3, device=device)
        self._origins[..., 2] = LIDAR_HEIGHT_M
        self._directions = torch.zeros(num_envs, NUM_BEAMS, 3, device=device)

        self.ranges = torch.zeros(num_envs, NUM_BEAMS, device=device)
        """Exact ranges. Shape: (N, L) [m]."""
        self.scans = torch.zeros(num_envs, LAG_STEPS + 1, NUM_BEAMS, device=device)
        """Ranges with noise, the newest first. Shape: (N, LAG_STEPS + 1, L) [m]."""
        self.stale = torch.ones(num_envs, dtype=torch.bool, device=device)
        """Worlds that have changed since their last scan. Shape: (N,)."""

    def refresh(
        self, pose: Tensor, *, begins: Tensor, noise: Tensor, chance: Tensor, recipe: EpisodeSet
    ) -> None:
        """Scan in the worlds that have changed.

        Args:
            pose: x, y, heading of the robot. Shape: (N, 3) [m, m, rad].
            begins: mask of the worlds at the start of an episode. Shape: (N,).
            noise: draws from N(0, 1). Shape: (N, L).
            chance: draws from U(0, 1). Shape: (N, L).
            recipe: says how large the noise is.
        """
        # Turn the beams from the robot's frame into the hall's.
        cos = pose[:, 2:].cos()
        sin = pose[:, 2:].sin()
        self._origins[..., :2] = pose[:, None, :2]
        self._directions[..., 0] = cos * self._beams[0] - sin * self._beams[1]
        self._directions[..., 1] = sin * self._beams[0] + cos * self._beams[1]
        hits = self._physics.rays(self._origins, self._directions, worlds=self.stale)
        # A ray that meets nothing is -1.
        seen = torch.where(hits < 0.0, RANGE_M, hits).clamp(max=RANGE_M)
        put(self.ranges, seen, self.stale)

        noisy = (self.ranges + recipe.range_noise_m * noise).clamp(0.0, RANGE_M)
        noisy = torch.where(chance < recipe.dropout, RANGE_M, noisy)
        # An episode begins as if the robot had stood there for long.
        shifted = torch.cat([noisy[:, None], self.scans[:, :-1]], 1)
        put(self.scans, torch.where(begins[:, None, None], noisy[:, None], shifted), self.stale)
        self.stale.fill_(False)


def put(kept: Tensor, value: Tensor, mask: Tensor) -> None:
    """Write the rows of `value` in `mask` (N,) into `kept`. Shapes: (N, ...)."""
    rows = mask.view(-1, *[1] * (kept.dim() - 1))
    kept.copy_(torch.where(rows, value.to(kept.dtype), kept))
