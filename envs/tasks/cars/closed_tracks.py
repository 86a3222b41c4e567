"""Closed race tracks, drawn at random: centre lines of equal width, and the place of cars along them.

Sizes: N cars, T tracks, P points of a centre line, K points of a preview.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NUM_POINTS = 640
"""P: points of every centre line, at equal distances of about 0.1 m."""
SPLITS = {"train": 1, "test": 2}
"""First number of the seed of every track of a split; the second is the track's own."""
_LENGTH_M = (55.0, 75.0)
_HALF_WIDTH_M = (0.9, 1.1)
_TIGHTEST_RADIUS_M = 1.5
_VERGE_M = 0.4
"""Least distance between the edges of two parts of a track."""
_LEAST_TURNING_RAD = 3.0 * math.pi
"""Least sum of all turns to the left and to the right; those of a circle are 2 pi."""
_FEWEST_KNOTS = 12
_MOST_KNOTS = 16


class TrackPlace(NamedTuple):
    """Places of N cars along their centre lines. Shapes: (N,)."""

    along: Tensor
    """Distance from the track's first point, in [0, length) [m]."""
    aside: Tensor
    """Distance from the centre line, positive to its left [m]."""
    forward_x: Tensor
    """Direction of the centre line, a unit vector."""
    forward_y: Tensor


@dataclass(frozen=True)
class ClosedTracks:
    """T centre lines as tables."""

    line: Tensor
    """Points and unit tangents (x, y, tangent x, tangent y). Shape: (T * P, 4)."""
    curvature: Tensor
    """Curvature, positive to the left [1/m]. Shape: (T * P,)."""
    length: Tensor
    """[m]. Shape: (T,)."""
    half_width: Tensor
    """[m]. Shape: (T,)."""

    @property
    def num_tracks(self) -> int:
        """T."""
        return self.length.numel()

    def to(self, device: torch.device) -> ClosedTracks:
        """Return the tracks on `device`."""
        tensors = (self.line, self.curvature, self.length, self.half_width)
        return ClosedTracks(*(tensor.to(device) for tensor in tensors))

    def mirrored(self) -> ClosedTracks:
        """Return the mirror images in the x axis."""
        signs = self.line.new_tensor([1.0, -1.0, 1.0, -1.0])
        return replace(self, line=self.line * signs, curvature=-self.curvature)

    def rows(self, track: Tensor, along: Tensor) -> Tensor:
        """Return the rows of the tables next to a distance from the start. Shapes: (N,), (N, ...)."""
        shape = [-1] + [1] * (along.dim() - 1)
        spacing = (self.length / NUM_POINTS)[track].view(shape)
        # Floor and remainder also take distances before the start and beyond a lap.
        nearest = (along / spacing + 0.5).floor().long().remainder(NUM_POINTS)
        return nearest + (track * NUM_POINTS).view(shape)

    def locate(self, track: Tensor, x: Tensor, y: Tensor, *, guess: Tensor) -> TrackPlace:
        """Return where cars are, near the `guess` of their distance from the start. Shapes: (N,)."""
        # Newton's method for (point - c(s)) . t(s) = 0; one step is enough from a guess within 0.2 m.
        rows = self.rows(track, guess)
        point_x, point_y, forward_x, forward_y = self.line.index_select(0, rows).unbind(-1)
        offset_x = x - point_x
        offset_y = y - point_y
        aside = forward_x * offset_y - forward_y * offset_x
        ahead = forward_x * offset_x + forward_y * offset_y
        # A way beside a bend is longer or shorter than on the centre line.
        shrink = (1.0 - aside * self.curvature.index_select(0, rows)).clamp(min=0.3)
        length = self.length[track]
        along = (rows - track * NUM_POINTS) * (length / NUM_POINTS) + ahead / shrink
        return TrackPlace(along.remainder(length), aside, forward_x, forward_y)

    def points(self, track: Tensor, along: Tensor) -> Tensor:
        """Return points of the centre line. Shapes: (N,), (N, K) -> (N, K, 2) [m]."""
        rows = self.rows(track, along)
        return self.line[:, :2].index_select(0, rows.flatten()).view(*along.shape, 2)


@functools.lru_cache(maxsize=4)
def draw_tracks(split: str, num_tracks: int) -> ClosedTracks:
    """Return the first `num_tracks` tracks of a split; equal calls return equal tracks.

    Raises:
        KeyError: the split is unknown.
    """
    first = SPLITS[split]
    drawn = [_draw_track(np.random.default_rng([first, index])) for index in range(num_tracks)]
    return ClosedTracks(
        line=torch.cat([torch.from_numpy(line) for line, _, _, _ in drawn]).float(),
        curvature=torch.cat([torch.from_numpy(curvature) for _, curvature, _, _ in drawn]).float(),
        length=torch.tensor([length for _, _, length, _ in drawn]),
        half_width=torch.tensor([half_width for _, _, _, half_width in drawn]),
    )


def _draw_track(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return line (P, 4), curvature (P,), length [m] and half width [m] of the first fit draw."""
    while True:
        length_m = rng.uniform(*_LENGTH_M)
        half_width_m = rng.uniform(*_HALF_WIDTH_M)
        # The shape first, then its size: knots have no unit.
        points = _equidistant(_spline(_draw_knots(rng))) * length_m
        # All points are equally far apart, so that central differences are tangents.
        steps = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
        tangents = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        # Curvature: the part of the tangent's change that is across it, over a length of two spacings.
        turns = np.roll(tangents, -1, axis=0) - np.roll(tangents, 1, axis=0)
        across = tangents[:, 0] * turns[:, 1] - tangents[:, 1] * turns[:, 0]
        curvature = across / (2.0 * length_m / NUM_POINTS)
        is_drivable = np.abs(curvature).max() < 1.0 / _TIGHTEST_RADIUS_M
        has_bends = np.abs(curvature).mean() * length_m > _LEAST_TURNING_RAD
        if is_drivable and has_bends and _is_apart(points, 2.0 * half_width_m + _VERGE_M, length_m):
            return np.concatenate([points, tangents], axis=1), curvature, length_m, half_width_m


def _draw_knots(rng: np.random.Generator) -> np.ndarray:
    """Return knots around the origin, in the order of driving. Shape: (knots, 2)."""
    count = int(rng.integers(_FEWEST_KNOTS, _MOST_KNOTS + 1))
    angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * (2.0 * math.pi / count)
    radii = rng.uniform(0.4, 1.0, count)
    # Half of the tracks are driven clockwise, so that left and right are alike.
    side = rng.choice([-1.0, 1.0])
    return np.stack([radii * np.cos(angles), side * radii * np.sin(angles)], axis=1)


def _spline(knots: np.ndarray, *, samples: int = 16) -> np.ndarray:
    """Return the closed uniform cubic B-spline of knots, whose curvature is continuous. Shape: (n, 2)."""
    u = np.linspace(0.0, 1.0, samples, endpoint=False)[:, None, None]
    weights = [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]
    pieces = sum(weight * np.roll(knots, -shift, axis=0) for shift, weight in enumerate(weights))
    # Samples of a piece follow each other, then come those of the next.
    return (pieces / 6.0).transpose(1, 0, 2).reshape(-1, 2)


def _equidistant(points: np.ndarray) -> np.ndarray:
    """Return P points at equal distances along a closed line, scaled to the length 1. Shape: (P, 2)."""
    closed = np.concatenate([points, points[:1]])
    distance = np.concatenate([[0.0], np.linalg.norm(np.diff(closed, axis=0), axis=1).cumsum()])
    wanted = np.linspace(0.0, distance[-1], NUM_POINTS, endpoint=False)
    even = np.stack([np.interp(wanted, distance, closed[:, axis]) for axis in range(2)], axis=1)
    return even / distance[-1]


def _is_apart(points: np.ndarray, gap_m: float, length_m: float) -> bool:
    """Return True if parts of a centre line that do not follow each other are at least `gap_m` apart."""
    thinned = points[::4]
    count = len(thinned)
    apart = np.linalg.norm(thinned[:, None] - thinned, axis=-1)
    index = np.arange(count)
    steps = np.abs(index[:, None] - index)
    along = np.minimum(steps, count - steps) * (length_m / count)
    # The two ends of a half circle of this gap are pi / 2 times the gap apart along the line.
    return bool((apart[along > 0.5 * math.pi * gap_m + 0.5] > gap_m).all())
