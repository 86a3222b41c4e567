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
@compiled(contract=False)
def _beams_towards(x, y, reach, heading, num_beams):
    """Return the first beam that may meet a circle around (x, y), and the number of those that may."""
    distance = math.sqrt(x * x + y * y)
    reach += _MARGIN_M
    if distance <= reach:
        return 0, num_beams
    # asin(s) <= s + (pi / 2 - 1) s^3 for s in [0, 1]
    share = reach / distance
    spread = share + (0.5 * math.pi - 1.0) * share * share * share
    bearing = math.atan2(y, x) - heading
    per_radian = num_beams / math.tau
    first = math.ceil((bearing - spread) * per_radian)
    last = math.floor((bearing + spread) * per_radian)
    return first % num_beams, min(last - first + 1, num_beams)


@compiled(contract=False)
def _next(beam, num_beams):
    """Return the beam to the left."""
    beam += 1
    if beam == num_beams:
        beam = 0
    return beam


@compiled(contract=False)
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


@compiled(contract=False)
def _to_face(start, along, half, start_aside, aside, half_aside):
    """Return the length of a ray up to the face at `half`, infinite if it misses that."""
    if abs(along) > _PARALLEL:
        length = (half - start) / along
        if length >= 0.0 and abs(start_aside + length * aside) <= half_aside:
            return length
    return math.inf


@compiled(contract=False)
def _to_box(offset_x, offset_y, w, z, half_x, half_y, heading, direction_x, direction_y, lengths):
    """Shorten the rays that meet a box, which lies `offset` away, turned by a quaternion (w, 0, 0, z)."""
    reach = math.sqrt(half_x * half_x + half_y * half_y)
    beam, count = _beams_towards(offset_x, offset_y, reach, heading, len(lengths))
    norm = math.sqrt(w * w + z * z)
    if abs(norm - 1.0) > _PARALLEL:
        w *= 1.0 / norm
        z *= 1.0 / norm
    cos = w * w - z * z
    sin = 2.0 * (w * z)
    # In the box's frame, from its middle.
    x = cos * -offset_x + sin * -offset_y
    y = cos * -offset_y - sin * -offset_x
    # From outside, a ray meets a face on its side first; from inside, any face.
    sees_x = abs(x) > half_x
    sees_y = abs(y) > half_y
    is_inside = not sees_x and not sees_y
    face_x = math.copysign(half_x, x)
    face_y = math.copysign(half_y, y)
    for _ in range(count):
        along = cos * direction_x[beam] + sin * direction_y[beam]
        across = cos * direction_y[beam] - sin * direction_x[beam]
        length = lengths[beam]
        if sees_x or is_inside:
            length = min(length, _to_face(x, along, face_x, y, across, half_y))
        if sees_y or is_inside:
            length = min(length, _to_face(y, across, face_y, x, along, half_x))
        if is_inside:
            length = min(length, _to_face(x, along, -face_x, y, across, half_y))
            length = min(length, _to_face(y, across, -face_y, x, along, half_x))
        lengths[beam] = length
        beam = _next(beam, len(lengths))


@compiled(contract=False)
def _to_disc(offset_x, offset_y, radius, heading, direction_x, direction_y, lengths):
    """Shorten the rays that meet a disc, which lies `offset` away."""
    beam, count = _beams_towards(offset_x, offset_y, radius, heading, len(lengths))
    c = offset_x * offset_x + offset_y * offset_y - radius * radius
    for _ in range(count):
        x = direction_x[beam]
        y = direction_y[beam]
        length = lengths[beam]
        # a t^2 + 2 b t + c = 0
        a = x * x + y * y
        b = x * -offset_x + y * -offset_y
        determinant = b * b - a * c
        if determinant >= _PARALLEL:
            root = math.sqrt(determinant)
            near = (-b - root) / a
            far = (-b + root) / a
            if near >= 0.0:
                length = min(length, near)
            elif far >= 0.0:
                length = min(length, far)
        lengths[beam] = length
        beam = _next(beam, len(lengths))


@compiled(contract=False)
def _to_obstacles(world, x, y, heading, obstacles, range_m, direction_x, direction_y, lengths):
    """Shorten the rays that meet an obstacle of a world within range."""
    for k in range(obstacles.position.shape[1]):
        offset_x = obstacles.position[world, k, 0] - x
        offset_y = obstacles.position[world, k, 1] - y
        length = obstacles.size[world, k, 0]
        width = 0.0
        if k < obstacles.num_boxes:
            width = obstacles.size[world, k, 1]
        # Written so that a pose that is not a number meets nothing.
        if not (offset_x * offset_x + offset_y * offset_y < (range_m + length + width) ** 2):
            continue
        if k < obstacles.num_boxes:
            w = obstacles.quaternion[world, k, 0]
            z = obstacles.quaternion[world, k, 3]
            _to_box(offset_x, offset_y, w, z, length, width, heading, direction_x, direction_y, lengths)
        else:
            _to_disc(offset_x, offset_y, length, heading, direction_x, direction_y, lengths)


@compiled(contract=False)
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


@compiled(contract=False)
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
