"""Rotations of batched vectors by unit quaternions in MuJoCo's order (w, x, y, z)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def rotate_inverse(quat: Tensor, vector: Tensor) -> Tensor:
    """Express world-frame `vector` in the body's frame.

    Shapes: (num_envs, 4), (num_envs, 3) -> (num_envs, 3).
    v' = v - 2 w (u x v) + 2 u x (u x v) for q = (w, u).
    """
    w = quat[:, :1]
    u = quat[:, 1:]
    # t = 2 u x v, so that v' = v - w t + u x t.
    t = 2.0 * torch.linalg.cross(u, vector)
    return vector - w * t + torch.linalg.cross(u, t)


def projected_gravity(quat: Tensor) -> Tensor:
    """Return the unit gravity vector in the body's frame; (0, 0, -1) when level.

    Shape: (num_envs, 4) -> (num_envs, 3).
    """
    # The negated third row of the rotation matrix: the world's -z axis seen from the body.
    w, x, y, z = quat.unbind(-1)
    return torch.stack([2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1], -1)


class BaseMotion(NamedTuple):
    """Motion of a floating base in its own frame. Shapes: (num_envs, 3)."""

    linear: Tensor
    """Velocity [m/s]."""
    angular: Tensor
    """Angular velocity [rad/s]."""
    gravity: Tensor
    """Unit vector of gravity [-]."""


def base_motion(quat: Tensor, velocity: Tensor) -> BaseMotion:
    """Return the motion of a free joint from its orientation (num_envs, 4) and velocities (num_envs, 6)."""
    # MuJoCo gives the linear velocity in the world's frame, but the angular velocity in the body's.
    linear, angular = velocity.split(3, -1)
    return BaseMotion(rotate_inverse(quat, linear), angular, projected_gravity(quat))
