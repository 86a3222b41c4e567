"""Distances to obstacles, and the motion of those that move.

Sizes: N environments, B boxes, M movers, P points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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


class Gap(NamedTuple):
    """Distance to the nearest obstacle."""

    distance: Tensor
    """Negative inside. Shape: (N, P) [m]."""
    normal: Tensor
    """Unit vector away from the obstacle. Shape: (N, P, 2)."""


def gaps(points: Tensor, boxes: Boxes, *, size_m: float) -> Gap:
    """Return distances of points from boxes and from the walls of a hall. Shape of points: (N, P, 2) [m]."""
    # Box frames: along the length, and across.
    offset = points[:, :, None] - boxes.center[:, None]
    axis = boxes.axis[:, None]
    along = offset[..., 0] * axis[..., 0] + offset[..., 1] * axis[..., 1]
    across = offset[..., 1] * axis[..., 0] - offset[..., 0] * axis[..., 1]
    beyond_along = along.abs() - boxes.half[:, None, :, 0]
    beyond_across = across.abs() - boxes.half[:, None, :, 1]

    # Outside: the distance from the nearest corner or face; inside: the depth below the nearest face.
    outside = torch.hypot(beyond_along.clamp(min=0.0), beyond_across.clamp(min=0.0))
    inside = torch.maximum(beyond_along, beyond_across).clamp(max=0.0)
    to_box, nearest = (outside + inside).min(-1, keepdim=True)

    # The normal points from the nearest point of the box, or out of the nearest face.
    def of_nearest(value: Tensor) -> Tensor:
        return value.expand_as(along).gather(-1, nearest)

    is_inside = to_box < 0.0
    first = of_nearest(beyond_along)
    second = of_nearest(beyond_across)
    along_part = torch.where(is_inside, (first >= second).float(), first.clamp(min=0.0))
    across_part = torch.where(is_inside, (first < second).float(), second.clamp(min=0.0))
    local = torch.cat([along_part * of_nearest(along).sign(), across_part * of_nearest(across).sign()], -1)
    local = local / local.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    cos = of_nearest(axis[..., 0])[..., 0]
    sin = of_nearest(axis[..., 1])[..., 0]
    box_normal = torch.stack(
        [local[..., 0] * cos - local[..., 1] * sin, local[..., 0] * sin + local[..., 1] * cos], -1
    )

    # Walls in the order west, south, east, north.
    walls = torch.cat([points, size_m - points], -1)
    to_wall, side = walls.min(-1)
    inward_x = (side == 0).float() - (side == 2).float()
    inward_y = (side == 1).float() - (side == 3).float()
    is_wall = to_wall < to_box[..., 0]
    distance = torch.where(is_wall, to_wall, to_box[..., 0])
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
    movers: Movers, boxes: Boxes, robot: Tensor, *, size_m: float, robot_radius_m: float, step_s: float
) -> Movers:
    """Return the movers a step later: on their way, waiting for the robot, or turned away from an obstacle.

    Movers pass through each other.
    """
    waits = is_yielding(movers, robot, robot_radius_m=robot_radius_m)
    ahead = movers.position + movers.heading * (movers.speed * step_s)[..., None]
    gap = gaps(ahead, boxes, size_m=size_m)
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
