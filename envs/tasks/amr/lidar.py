"""A lidar on all robots, with noise and a memory of the last scans.

Sizes: N environments, L beams.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from factory.envs.physics.base import Physics
from factory.envs.tasks.amr.robot import LAG_STEPS, NUM_BEAMS, RANGE_M
from factory.envs.tasks.amr.scene import LIDAR_HEIGHT_M
from factory.kernels.scans import Noise, Obstacles, scan

CastRays = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Returns the length of every ray up to what it meets, negative where it meets nothing, and anything in rows
outside the mask: origins (N, 2) [m], directions (N, L, 2), mask (N,) -> (N, L) [m].
"""


class PhysicsRays:
    """Rays in the worlds of a physics engine, at the height of the lidar."""

    def __init__(self, physics: Physics) -> None:
        """Prepare the rays."""
        self._physics = physics
        # Rays meet geoms, whose places Warp brings up to date at a reset only if they were asked for.
        physics.field("geom_xpos")
        num_envs = physics.num_envs
        device = physics.device
        self._origins = torch.zeros(num_envs, NUM_BEAMS, 3, device=device)
        self._origins[..., 2] = LIDAR_HEIGHT_M
        self._directions = torch.zeros(num_envs, NUM_BEAMS, 3, device=device)

    def __call__(self, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
        """Return lengths, see `CastRays`."""
        self._origins[..., :2] = origin[:, None]
        self._directions[..., :2] = direction
        return self._physics.rays(self._origins, self._directions, worlds=mask)


class Lidar:
    """Scans of all robots; beams begin at the heading and go round to the left."""

    def __init__(self, cast_rays: CastRays, *, num_envs: int, device: torch.device) -> None:
        """Prepare the beams."""
        self._cast_rays = cast_rays
        angle = torch.arange(NUM_BEAMS, device=device) * (math.tau / NUM_BEAMS)
        self._beams = torch.stack([angle.cos(), angle.sin()])

        self.ranges = torch.zeros(num_envs, NUM_BEAMS, device=device)
        """Exact ranges. Shape: (N, L) [m]."""
        self.scans = torch.zeros(num_envs, LAG_STEPS + 1, NUM_BEAMS, device=device)
        """Ranges with noise, the newest first. Shape: (N, LAG_STEPS + 1, L) [m]."""
        self.stale = torch.ones(num_envs, dtype=torch.bool, device=device)
        """Robots around which something has changed since their last scan. Shape: (N,)."""

    def refresh(
        self, pose: Tensor, *, begins: Tensor, noise: Noise, obstacles: Obstacles | None = None
    ) -> None:
        """Scan where something has changed.

        Args:
            pose: x, y, heading of the robot. Shape: (N, 3) [m, m, rad].
            begins: mask of the rows at the start of an episode. Shape: (N,).
            noise: noise of the new scan.
            obstacles: everything that beams meet, for the compiled kernel; without it, rays are cast.
        """
        if obstacles is None:
            self._scan(pose, begins, noise)
        else:
            scan(
                pose,
                beams=self._beams,
                stale=self.stale,
                begins=begins,
                obstacles=obstacles,
                noise=noise,
                range_m=RANGE_M,
                ranges=self.ranges,
                scans=self.scans,
            )
        self.stale.fill_(False)

    def _scan(self, pose: Tensor, begins: Tensor, noise: Noise) -> None:
        # Turn the beams from the robot's frame into the hall's.
        cos = pose[:, 2:].cos()
        sin = pose[:, 2:].sin()
        x = cos * self._beams[0] - sin * self._beams[1]
        y = sin * self._beams[0] + cos * self._beams[1]
        hits = self._cast_rays(pose[:, :2], torch.stack([x, y], -1), self.stale)
        # A ray that meets nothing is -1.
        seen = torch.where(hits < 0.0, RANGE_M, hits).clamp(max=RANGE_M)
        put(self.ranges, seen, self.stale)

        noisy = (self.ranges + noise.deviation_m * noise.normal).clamp(0.0, RANGE_M)
        noisy = torch.where(noise.chance < noise.dropout, RANGE_M, noisy)
        # An episode begins as if the robot had stood there for long.
        shifted = torch.cat([noisy[:, None], self.scans[:, :-1]], 1)
        put(self.scans, torch.where(begins[:, None, None], noisy[:, None], shifted), self.stale)


def put(kept: Tensor, value: Tensor | float, rows: Tensor) -> None:
    """Write values into rows of `kept`. Shape: (N, ...).

    Args:
        kept: tensor to write to.
        value: for a mask a value for every row (N, ...), else one for each of the numbered rows (R, ...);
            or one number for all.
        rows: mask (N,), or numbers (R,), which a CUDA graph cannot find out.
    """
    if isinstance(value, Tensor):
        value = value.to(kept.dtype)
    if rows.dtype != torch.bool:
        kept[rows] = value
        return
    mask = rows.view(-1, *[1] * (kept.dim() - 1))
    kept.copy_(torch.where(mask, value, kept))
