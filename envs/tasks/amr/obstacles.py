"""Distances to obstacles, and the motion of those that move.

Sizes: N environments, B boxes, M movers, P points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from factory.kernels.nearest_box import nearest_box

YIELD_GAP_M = 0.5
"""Gap to a robot ahead of it below which a mover waits."""


class Boxes(NamedTuple):
    """Boxes of all halls; those that a hall does not have are far away."""

    center: Tensor
    """Shape: (N, B, 2) [m]."""
    half: Tensor
    """Half length and half width. Shape: (N, B, 2) [m]."""
    axis: Tensor
    """Unit vector along the length. Shape: (N, B, 2)."""

    @classmethod
    def of(cls, numbers: Tensor) -> Boxes:
        """Return views of numbers (N, B, 6)."""
        return cls(*numbers.split(2, -1))

    def quaternions(self) -> Tensor:
        """Return the turns about z; boxes are turned by less than 180 degrees. Shape: (N, B, 4)."""
        # A turn by a is (cos a/2, 0, 0, sin a/2).
        cos = self.axis[..., 0]
        quat = torch.zeros(*cos.shape, 4, device=cos.device)
        quat[..., 0] = (0.5 * (1.0 + cos)).clamp(min=0.0).sqrt()
        quat[..., 3] = (0.5 * (1.0 - cos)).clamp(min=0.0).sqrt()
        return quat


class _BoxFrame(NamedTuple):
    """Places in the frames of boxes, along the length and across; all tensors have one shape."""

    along: Tensor
    """From the middle of the box [m]."""
    across: Tensor
    beyond_along: Tensor
    """Beyond the face on that side, negative before it [m]."""
    beyond_across: Tensor

    @classmethod
    def of(cls, offset: Tensor, half: Tensor, axis: Tensor) -> _BoxFrame:
        """Return places that lie `offset` from the middles of boxes. Shapes: (..., 2)."""
        along = offset[..., 0] * axis[..., 0] + offset[..., 1] * axis[..., 1]
        across = offset[..., 1] * axis[..., 0] - offset[..., 0] * axis[..., 1]
        return cls(along, across, along.abs() - half[..., 0], across.abs() - half[..., 1])

    @property
    def distance(self) -> Tensor:
        """Distance from the box, negative inside [m]."""
        # Outside: the distance from the nearest corner or face; inside: the depth below the nearest face.
        outside = torch.hypot(self.beyond_along.clamp(min=0.0), self.beyond_across.clamp(min=0.0))
        inside = torch.maximum(self.beyond_along, self.beyond_across).clamp(max=0.0)
        return outside + inside


class Gap(NamedTuple):
    """Distance to the nearest obstacle."""

    distance: Tensor
    """Negative inside. Shape: (N, P) [m]."""
    normal: Tensor
    """Unit vector away from the obstacle. Shape: (N, P, 2)."""


def gaps(points: Tensor, boxes: Boxes, *, size_m: float, compiled: bool = False) -> Gap:
    """Return distances of points from boxes and from the walls of a hall.

    Args:
        points: places. Shape: (N, P, 2) [m].
        boxes: boxes of each environment.
        size_m: edge of the hall, whose corner is the origin.
        compiled: search with the compiled kernel, which needs tensors on a CPU.
    """
    if compiled:
        center, half, axis = Boxes.of(nearest_box(points, *boxes))
    else:
        offset = points[:, :, None] - boxes.center[:, None]
        nearest = _BoxFrame.of(offset, boxes.half[:, None], boxes.axis[:, None]).distance.argmin(-1)
        rows = nearest[..., None].expand(-1, -1, 2)
        center, half, axis = (part.gather(1, rows) for part in boxes)
    frame = _BoxFrame.of(points - center, half, axis)
    to_box = frame.distance

    # The normal points from the nearest point of the box, or out of the nearest face.
    is_inside = to_box < 0.0
    first = frame.beyond_along
    second = frame.beyond_across
    along_part = torch.where(is_inside, (first >= second).float(), first.clamp(min=0.0))
    across_part = torch.where(is_inside, (first < second).float(), second.clamp(min=0.0))
    local = torch.stack([along_part * frame.along.sign(), across_part * frame.across.sign()], -1)
    local = local / local.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    cos, sin = axis.unbind(-1)
    box_normal = torch.stack(
        [local[..., 0] * cos - local[..., 1] * sin, local[..., 0] * sin + local[..., 1] * cos], -1
    )

    # Walls in the order west, south, east, north.
    walls = torch.cat([points, size_m - points], -1)
    to_wall, side = walls.min(-1)
    inward_x = (side == 0).float() - (side == 2).float()
    inward_y = (side == 1).float() - (side == 3).float()
    is_wall = to_wall < to_box
    distance = torch.where(is_wall, to_wall, to_box)
    normal = torch.where(is_wall[..., None], torch.stack([inward_x, inward_y], -1), box_normal)
    return Gap(distance, normal)


class Movers(NamedTuple):
    """Moving cylinders."""

    position: Tensor
    """Shape: (N, M, 2) [m]."""
    heading: Tensor
    """Unit vector. Shape: (N, M, 2)."""
    speed: Tensor
    """Shape: (N, M) [m/s]."""
    radius: Tensor
    """Shape: (N, M) [m]."""


def is_yielding(movers: Movers, robot: Tensor, *, robot_radius_m: float) -> Tensor:
    """Return which movers wait, since the robot is close ahead of them. Shape: (N, 2) -> (N, M)."""
    to_robot = robot[:, None] - movers.position
    gap = to_robot.norm(dim=-1) - movers.radius - robot_radius_m
    # A robot behind a mover is not in its way, however close it is.
    is_ahead = (to_robot * movers.heading).sum(-1) > 0.0
    return is_ahead & (gap < YIELD_GAP_M)


def moved(
    movers: Movers,
    boxes: Boxes,
    robot: Tensor,
    *,
    size_m: float,
    robot_radius_m: float,
    step_s: float,
    compiled: bool = False,
) -> Movers:
    """Return the movers a step later: on their way, waiting for the robot, or turned away from an obstacle.

    Movers pass through each other. `size_m` and `compiled` are those of `gaps`.
    """
    waits = is_yielding(movers, robot, robot_radius_m=robot_radius_m)
    ahead = movers.position + movers.heading * (movers.speed * step_s)[..., None]
    gap = gaps(ahead, boxes, size_m=size_m, compiled=compiled)
    is_blocked = gap.distance < movers.radius

    # Reflection at the obstacle: h - 2 (h . n) n, if the mover heads for it.
    towards = (movers.heading * gap.normal).sum(-1, keepdim=True).clamp(max=0.0)
    reflected = movers.heading - 2.0 * towards * gap.normal
    reflected = reflected / reflected.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    turns = (is_blocked & ~waits)[..., None]
    # A mover that turns away begins to move in the next step.
    stays = (is_blocked | waits)[..., None]
    return movers._replace(
        position=torch.where(stays, movers.position, ahead),
        heading=torch.where(turns, reflected, movers.heading),
    )
