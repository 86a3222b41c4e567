"""Scans of planar lidars, compiled: what `Lidar` does with torch and rays, for a fraction of their cost.

Beams go round evenly, so an obstacle is tested only with those within the angle that it spans, and obstacles
out of range with none. The arithmetic is that of MuJoCo's rays (`engine_ray.c`), in float64.

Sizes: N environments, K obstacles, S scans, L lidar beams.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from factory.kernels.compiling import compiled

_PARALLEL = 1e-15
"""Component of a direction across a face below which the ray never meets it (`mjMINVAL`)."""
_MARGIN_M = 1e-3
"""Growth of an obstacle for the choice of beams, far above rounding."""


class Obstacles(NamedTuple):
    """Upright boxes, then discs, of all worlds, as MuJoCo has them, in a square hall.

    Of positions, x and y count, of a quaternion its turn about z.
    """

    position: Tensor
    """Shape: (N, K, 3) float64 [m]."""
    quaternion: Tensor
    """Shape: (N, K, 4) float64."""
    size: Tensor
    """Half length and half width of a box, radius of a disc. Shape: (N, K, 3) float64 [m]."""
    num_boxes: int
    """The first obstacles are boxes."""
    size_m: float
    """Edge of the hall, whose corner is the origin [m]."""


class Noise(NamedTuple):
    """Noise of a lidar."""

    normal: Tensor
    """Draws from N(0, 1). Shape: (N, L)."""
    chance: Tensor
    """Draws from U(0, 1). Shape: (N, L)."""
    deviation_m: float
    """Standard deviation of a range [m]."""
    dropout: float
    """Share of beams that return nothing."""


# Without `contract`, products and sums round as in MuJoCo and torch.
@compiled(fastmath=False)
def _beams_towards(x, y, reach, heading, num_beams):
    """Return the first beam that may meet a circle around (x, y), and the number of those that may."""
    distance = math.sqrt(x * x + y * y)
    reach += _MARGIN_M
    if distance <= reach:
        return 0, num_beams
    spread = math.asin(reach / distance)
    bearing = math.atan2(y, x) - heading
    per_radian = num_beams / math.tau
    first = math.ceil((bearing - spread) * per_radian)
    last = math.floor((bearing + spread) * per_radian)
    return first, last - first + 1


@compiled(fastmath=False)
def _to_walls(x, y, direction_x, direction_y, size_m, lengths):
    """Fill in the lengths of rays up to the walls."""
    for beam in range(len(lengths)):
        length = math.inf
        for start, along in ((x, direction_x[beam]), (y, direction_y[beam])):
            if along > _PARALLEL:
                length = min(length, (size_m - start) / along)
            elif along < -_PARALLEL:
                length = min(length, -start / along)
        lengths[beam] = length


@compiled(fastmath=False)
def _slab(start, along, half):
    """Return where a ray enters and leaves the space between two faces at -half and half."""
    if abs(along) > _PARALLEL:
        side = math.copysign(half, along)
        return (-side - start) / along, (side - start) / along
    if abs(start) <= half:
        return -math.inf, math.inf
    return math.inf, -math.inf


@compiled(fastmath=False)
def _to_box(offset, quaternion, half, heading, direction_x, direction_y, lengths):
    """Shorten the rays that meet a box, `offset` away from where they begin."""
    first, count = _beams_towards(
        offset[0], offset[1], math.sqrt(half[0] ** 2 + half[1] ** 2), heading, len(lengths)
    )
    w = quaternion[0]
    z = quaternion[3]
    norm = math.sqrt(w * w + z * z)
    if abs(norm - 1.0) > _PARALLEL:
        w *= 1.0 / norm
        z *= 1.0 / norm
    cos = w * w - z * z
    sin = 2.0 * (w * z)
    # In the box's frame, from its middle.
    x = cos * -offset[0] + sin * -offset[1]
    y = cos * -offset[1] - sin * -offset[0]
    for index in range(first, first + count):
        beam = index % len(lengths)
        along = cos * direction_x[beam] + sin * direction_y[beam]
        across = cos * direction_y[beam] - sin * direction_x[beam]
        enter_along, leave_along = _slab(x, along, half[0])
        enter_across, leave_across = _slab(y, across, half[1])
        enter = max(enter_along, enter_across)
        leave = min(leave_along, leave_across)
        if enter <= leave and leave >= 0.0:
            # From inside, a ray ends where it leaves.
            if enter < 0.0:
                enter = leave
            lengths[beam] = min(lengths[beam], enter)


@compiled(fastmath=False)
def _to_disc(offset, radius, heading, direction_x, direction_y, lengths):
    """Shorten the rays that meet a disc, `offset` away from where they begin."""
    first, count = _beams_towards(offset[0], offset[1], radius, heading, len(lengths))
    c = offset[0] * offset[0] + offset[1] * offset[1] - radius * radius
    for index in range(first, first + count):
        beam = index % len(lengths)
        x = direction_x[beam]
        y = direction_y[beam]
        # a t^2 + 2 b t + c = 0
        a = x * x + y * y
        b = x * -offset[0] + y * -offset[1]
        determinant = b * b - a * c
        if determinant < _PARALLEL:
            continue
        root = math.sqrt(determinant)
        length = (-b - root) / a
        if length < 0.0:
            length = (-b + root) / a
        if length >= 0.0:
            lengths[beam] = min(lengths[beam], length)


@compiled(fastmath=False)
def _to_obstacles(world, x, y, heading, obstacles, range_m, direction_x, direction_y, lengths):
    """Shorten the rays that meet an obstacle of a world within range."""
    offset = np.empty(2)
    for k in range(obstacles.position.shape[1]):
        offset[0] = obstacles.position[world, k, 0] - x
        offset[1] = obstacles.position[world, k, 1] - y
        size = obstacles.size[world, k]
        reach = size[0]
        if k < obstacles.num_boxes:
            reach += size[1]
        # Written so that a pose that is not a number meets nothing.
        if not (offset[0] * offset[0] + offset[1] * offset[1] < (range_m + reach) ** 2):
            continue
        if k < obstacles.num_boxes:
            turn = obstacles.quaternion[world, k]
            _to_box(offset, turn, size, heading, direction_x, direction_y, lengths)
        else:
            _to_disc(offset, size[0], heading, direction_x, direction_y, lengths)


@compiled(fastmath=False)
def _add_scan(scans, ranges, normal, chance, begins, noise, range_m):
    """Put a noisy scan before the older ones. Shapes: (S, L), (L,)."""
    for age in range(len(scans) - 1, 0, -1):
        scans[age] = scans[age - 1]
    for beam in range(len(ranges)):
        seen = ranges[beam] + np.float32(noise.deviation_m) * normal[beam]
        seen = min(max(seen, np.float32(0.0)), range_m)
        if chance[beam] < np.float32(noise.dropout):
            seen = range_m
        scans[0, beam] = seen
    # An episode begins as if the robot had stood there for long.
    if begins:
        scans[1:] = scans[0]


@compiled(fastmath=False)
def _scan(pose, turn, beams, stale, begins, obstacles, noise, range_m, ranges, scans):
    """Fill in ranges and scans of the rows in `stale`, see `scan`."""
    num_beams = ranges.shape[1]
    direction_x = np.empty(num_beams)
    direction_y = np.empty(num_beams)
    lengths = np.empty(num_beams)
    for world in range(len(pose)):
        if not stale[world]:
            continue
        x = np.float64(pose[world, 0])
        y = np.float64(pose[world, 1])
        heading = np.float64(pose[world, 2])
        cos = turn[0, world]
        sin = turn[1, world]
        # Directions are rounded to float32, as those that other rays are given.
        for beam in range(num_beams):
            direction_x[beam] = cos * beams[0, beam] - sin * beams[1, beam]
            direction_y[beam] = sin * beams[0, beam] + cos * beams[1, beam]
        _to_walls(x, y, direction_x, direction_y, obstacles.size_m, lengths)
        _to_obstacles(world, x, y, heading, obstacles, range_m, direction_x, direction_y, lengths)
        for beam in range(num_beams):
            ranges[world, beam] = min(np.float32(lengths[beam]), range_m)
        normal = noise.normal[world]
        chance = noise.chance[world]
        _add_scan(scans[world], ranges[world], normal, chance, begins[world], noise, range_m)


def scan(
    pose: Tensor,
    *,
    beams: Tensor,
    stale: Tensor,
    begins: Tensor,
    obstacles: Obstacles,
    noise: Noise,
    range_m: float,
    ranges: Tensor,
    scans: Tensor,
) -> None:
    """Write exact ranges, and scans with noise, of the rows in `stale` (N,).

    Args:
        pose: x, y, heading of the lidars. Shape: (N, 3) [m, m, rad].
        beams: cosines and sines of the beams' angles from the heading. Shape: (2, L).
        stale: mask of the rows to scan. Shape: (N,).
        begins: mask of the rows whose older scans are to be the same. Shape: (N,).
        obstacles: obstacles of the worlds.
        noise: noise of the lidar.
        range_m: longest range [m].
        ranges: written to. Shape: (N, L) [m].
        scans: written to, the newest first. Shape: (N, S, L) [m].
    """
    # torch's own functions, so that directions have the same bits as without the kernel.
    turn = torch.stack([pose[:, 2].cos(), pose[:, 2].sin()])
    tensors = (pose, turn, beams, stale, begins)
    _scan(
        *(tensor.numpy() for tensor in tensors),
        as_arrays(obstacles),
        as_arrays(noise),
        np.float32(range_m),
        ranges.numpy(),
        scans.numpy(),
    )


def as_arrays(values: Any) -> Any:
    """Return a named tuple with arrays in the place of tensors, whose memory they share."""
    arrays = {name: v.numpy() for name, v in values._asdict().items() if isinstance(v, Tensor)}
    return values._replace(**arrays)
