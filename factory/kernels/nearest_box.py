"""The box that is nearest to a point, compiled: the search of `gaps`, for a fraction of its cost.

Sizes: N environments, B boxes, P points.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from factory.kernels.compiling import compiled


# Without `contract`, products and sums round as in torch.
@compiled(contract=False)
def _nearest_boxes(points, center, half, axis, nearest):
    """Fill in the nearest boxes."""
    for world in range(points.shape[0]):
        for point in range(points.shape[1]):
            least = np.float32(math.inf)
            number = 0
            for box in range(center.shape[1]):
                x = points[world, point, 0] - center[world, box, 0]
                y = points[world, point, 1] - center[world, box, 1]
                cos = axis[world, box, 0]
                sin = axis[world, box, 1]
                beyond_along = abs(x * cos + y * sin) - half[world, box, 0]
                beyond_across = abs(y * cos - x * sin) - half[world, box, 1]
                gap = max(beyond_along, beyond_across)
                # A corner is farther than either face that meets there.
                if gap < least and min(beyond_along, beyond_across) > np.float32(0.0):
                    squared = np.float64(beyond_along) ** 2 + np.float64(beyond_across) ** 2
                    gap = np.float32(math.sqrt(squared))
                if gap < least:
                    least = gap
                    number = box
            for side in range(2):
                nearest[world, point, side] = center[world, number, side]
                nearest[world, point, 2 + side] = half[world, number, side]
                nearest[world, point, 4 + side] = axis[world, number, side]


def nearest_box(points: Tensor, center: Tensor, half: Tensor, axis: Tensor) -> Tensor:
    """Return centre, half and axis of the box nearest to each point.

    Args:
        points: places. Shape: (N, P, 2) [m].
        center: centres of boxes. Shape: (N, B, 2) [m].
        half: their half lengths and half widths. Shape: (N, B, 2) [m].
        axis: unit vectors along their lengths. Shape: (N, B, 2).

    Returns:
        Shape: (N, P, 6).
    """
    nearest = torch.empty(*points.shape[:2], 6)
    arrays = (tensor.numpy() for tensor in (points.contiguous(), center, half, axis, nearest))
    _nearest_boxes(*arrays)
    return nearest
