"""Rays in the plane that end on boxes, discs and the walls of a hall, for worlds without a physics engine.

Sizes: N environments, L rays, B boxes, M discs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.amr.obstacles import Boxes, Movers

_PARALLEL = 1e-6
"""Least component of a direction across a face; a ray along the face counts as one that is nearly so."""


def cast_rays(origin: Tensor, direction: Tensor, *, boxes: Boxes, discs: Movers, size_m: float) -> Tensor:
    """Return the lengths of rays. Shapes: (N, 2) [m], (N, L, 2) -> (N, L) [m].

    Args:
        origin: where the rays of an environment begin, inside the hall.
        direction: unit vectors.
        boxes: boxes of each environment.
        discs: discs of each environment.
        size_m: edge of the hall, whose corner is the origin.
    """
    length = _to_walls(origin, direction, size_m)
    if boxes.center.shape[1] > 0:
        length = torch.minimum(length, _to_boxes(origin, direction, boxes))
    if discs.radius.shape[1] > 0:
        length = torch.minimum(length, _to_discs(origin, direction, discs))
    return length


def _to_walls(origin: Tensor, direction: Tensor, size_m: float) -> Tensor:
    """Return the lengths up to the walls around. Shape: (N, L)."""
    inverse = _inverse(direction)
    offset = (0.5 * size_m - origin)[:, None] * inverse
    return (offset + 0.5 * size_m * inverse.abs()).amin(-1)


def _to_boxes(origin: Tensor, direction: Tensor, boxes: Boxes) -> Tensor:
    """Return the lengths up to the nearest box, infinite without one (slabs; Kay and Kajiya 1986)."""
    offset = boxes.center - origin[:, None]
    entry = torch.full_like(direction[:, None, :, 0], -torch.inf)
    leave = -entry
    # Along the length of a box, then across it.
    for side in (0, 1):
        axis = boxes.axis
        if side == 1:
            axis = torch.stack([-boxes.axis[..., 1], boxes.axis[..., 0]], -1)
        inverse = _inverse(torch.einsum("nbi,nli->nbl", axis, direction))
        middle = (offset * axis).sum(-1)[..., None] * inverse
        reach = boxes.half[..., side, None] * inverse.abs()
        entry = torch.maximum(entry, middle - reach)
        leave = torch.minimum(leave, middle + reach)
    is_hit = (leave >= entry) & (leave > 0.0)
    return torch.where(is_hit, entry.clamp(min=0.0), torch.inf).amin(1)


def _to_discs(origin: Tensor, direction: Tensor, discs: Movers) -> Tensor:
    """Return the lengths up to the nearest disc, infinite without one."""
    offset = discs.position - origin[:, None]
    along = torch.einsum("nmi,nli->nml", offset, direction)
    # Half of the chord c within a disc of radius r, at the distance d: c^2 = r^2 - d^2 + along^2.
    rest = discs.radius.square() - offset.square().sum(-1)
    chord = (rest[..., None] + along.square()).clamp(min=0.0).sqrt()
    is_hit = (chord > 0.0) & (along + chord > 0.0)
    return torch.where(is_hit, (along - chord).clamp(min=0.0), torch.inf).amin(1)


def _inverse(value: Tensor) -> Tensor:
    """Return 1 / value, large where the value is about zero."""
    return 1.0 / torch.where(value.abs() < _PARALLEL, _PARALLEL, value)
