"""Lengths of shortest paths between the cells that have them, compiled.

Sizes: N environments, P points, G goals.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from factory.kernels.compiling import compiled

_SCALES = (2.0 ** (np.arange(31) - 24.0)).astype(np.float32)
"""Values of the last bit of a float16 number, by its exponent."""


@compiled(contract=False)
def _from_half(bits, scales):
    """Return the number with the bits of a float16 number that is not negative; Numba has no such type."""
    exponent = bits >> 10
    significand = bits & 1023
    # All but the smallest numbers have a leading one that is not stored.
    if exponent > 0:
        significand += 1024
        exponent -= 1
    return np.float32(significand) * scales[exponent]


# Without `contract`, products and sums round as in torch.
@compiled(contract=False)
def _interpolated(halves, goal, points, cells_per_m, scales, result):
    """Fill in the lengths, see `interpolated`."""
    last = np.float32(halves.shape[2] - 1 - 1e-3)
    for world in range(points.shape[0]):
        lengths = halves[goal[world]]
        for point in range(points.shape[1]):
            x = points[world, point, 0] * cells_per_m - np.float32(0.5)
            y = points[world, point, 1] * cells_per_m - np.float32(0.5)
            # Written so that a place that is not a number is in the first cell.
            if not x > np.float32(0.0):
                x = np.float32(0.0)
            if not y > np.float32(0.0):
                y = np.float32(0.0)
            x = min(x, last)
            y = min(y, last)
            column = math.floor(x)
            row = math.floor(y)
            right = x - np.float32(column)
            up = y - np.float32(row)
            left = np.float32(1.0) - right
            down = np.float32(1.0) - up
            total = (down * left) * _from_half(np.int64(lengths[row, column]), scales)
            total += (down * right) * _from_half(np.int64(lengths[row, column + 1]), scales)
            total += (up * left) * _from_half(np.int64(lengths[row + 1, column]), scales)
            total += (up * right) * _from_half(np.int64(lengths[row + 1, column + 1]), scales)
            result[world, point] = total


def interpolated(lengths: Tensor, goal: Tensor, points: Tensor, *, cells_per_m: float) -> Tensor:
    """Return lengths of shortest paths, linear between the centres of cells.

    Args:
        lengths: from all cells to every goal. Shape: (G, rows, columns) float16 [m].
        goal: goal of each environment. Shape: (N,) int64.
        points: places. Shape: (N, P, 2) [m].
        cells_per_m: number of cells in a metre.

    Returns:
        Shape: (N, P) [m].
    """
    result = torch.empty(points.shape[:2])
    halves = lengths.numpy().view(np.uint16)
    places = points.contiguous().numpy()
    _interpolated(halves, goal.numpy(), places, np.float32(cells_per_m), _SCALES, result.numpy())
    return result
