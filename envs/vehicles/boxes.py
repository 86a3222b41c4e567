"""Oriented rectangles in the plane, and the gaps between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Boxes(NamedTuple):
    """Oriented rectangles. All fields have one shape, or shapes that broadcast."""

    x: Tensor
    """Middle [m]."""
    y: Tensor
    yaw: Tensor
    """Direction of the length [rad]."""
    half_length: Tensor
    """[m]"""
    half_width: Tensor
    """[m]"""

    def reach(self, direction_yaw: Tensor) -> Tensor:
        """Return half the extent of each rectangle in a direction [m]."""
        turn = self.yaw - direction_yaw
        return self.half_length * turn.cos().abs() + self.half_width * turn.sin().abs()


def gap(first: Boxes, second: Boxes) -> Tensor:
    """Return the largest distance between two rectangles along any of their four axes [m].

    It is negative if and only if they overlap (theorem of the separating axis; Gottschalk et al. 1996,
    "OBBTree"), and otherwise at most their distance: equal to it where two sides face each other.
    """
    offset_x = second.x - first.x
    offset_y = second.y - first.y
    turn = second.yaw - first.yaw
    cosine = turn.cos().abs()
    sine = turn.sin().abs()
    gaps = []
    for one, other in ((first, second), (second, first)):
        ahead = one.yaw.cos()
        aside = one.yaw.sin()
        along = (offset_x * ahead + offset_y * aside).abs()
        across = (offset_y * ahead - offset_x * aside).abs()
        gaps.append(along - one.half_length - other.half_length * cosine - other.half_width * sine)
        gaps.append(across - one.half_width - other.half_length * sine - other.half_width * cosine)
    largest = torch.maximum(gaps[0], gaps[1])
    return torch.maximum(largest, torch.maximum(gaps[2], gaps[3]))
