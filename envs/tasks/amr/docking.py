"""The pose of a dock as a robot sees it, and how far the robot is from it: pure functions.

Sizes: N environments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from factory.envs.tasks.amr.dock_config import DockRewards
from factory.envs.tasks.amr.dock_table import DOCK
from factory.envs.tasks.amr.features import ACTION_MIRROR
from factory.envs.tasks.amr.robot import NUM_BEAMS
from factory.envs.terms.symmetry import Mirror

TOLERANCE_M = 0.02
TOLERANCE_RAD = math.radians(2.0)
STILL_M_PER_S = 0.05
"""A robot is docked if its place and heading are this close to the dock's, and it is this slow."""
SPEED_M_PER_S = (-0.25, 0.75)
"""Range of the commanded speeds: the action zero drives forward, since one that stands explores little."""
NUM_FEATURES = 7
REWARD_TERMS = ("approach", "precision", "docked", "collision", "turning", "time")
_FINE_M = 0.1
_FINE_RAD = 0.1
"""Errors of this size are magnified in the observation."""
_KEY_POINT_M = 0.2
"""Distance of the key points ahead of the robot's middle and behind it."""
_NEAR_M = (0.15, 0.04)
"""Distances of the key points within which precision rises."""
_JUMP_M = 0.3
"""Largest credited approach of a step: beside a guide, the path may jump."""


class DockError(NamedTuple):
    """Pose of the dock in the robot's frame. Shapes: (N,)."""

    x: Tensor
    """Ahead [m]."""
    y: Tensor
    """To the left [m]."""
    angle: Tensor
    """Dock's heading from the robot's, in [-pi, pi] [rad]."""

    @property
    def distance(self) -> Tensor:
        """Distance of the dock [m]."""
        return torch.hypot(self.x, self.y)


def dock_error(pose: Tensor) -> DockError:
    """Return how far a robot is from the dock. Shape: (N, 3) [m, m, rad]."""
    dock_x, dock_y, dock_heading = DOCK
    cos = pose[:, 2].cos()
    sin = pose[:, 2].sin()
    offset_x = dock_x - pose[:, 0]
    offset_y = dock_y - pose[:, 1]
    # Wrapped to [-pi, pi): the shorter way around.
    angle = torch.remainder(dock_heading - pose[:, 2] + math.pi, math.tau) - math.pi
    return DockError(cos * offset_x + sin * offset_y, cos * offset_y - sin * offset_x, angle)


def measured(error: DockError, *, scale: Tensor, noise: Tensor, bias: Tensor) -> DockError:
    """Return the pose of the dock as a sensor sees it.

    Args:
        error: true pose.
        scale: standard deviations at the dock, and their growth with the distance. Shape: (2, 3).
        noise: draws from N(0, 1). Shape: (N, 3).
        bias: constant errors. Shape: (N, 3) [m, m, rad].
    """
    deviation = scale[0] + scale[1] * error.distance[:, None]
    return DockError(*(torch.stack(error, -1) + bias + deviation * noise).unbind(-1))


def dock_features(error: DockError) -> Tensor:
    """Return the part of an observation that tells of the dock, coarse and fine. Shape: (N, NUM_FEATURES)."""
    sin = error.angle.sin()
    # Coarse values reach across the hall; the tanh magnifies the last centimetres and degrees.
    features = (
        0.3 * error.x,
        0.3 * error.y,
        (error.x / _FINE_M).tanh(),
        (error.y / _FINE_M).tanh(),
        error.angle.cos(),
        sin,
        (sin / _FINE_RAD).tanh(),
    )
    return torch.stack(features, -1)


def seen_error(features: Tensor) -> DockError:
    """Return the pose of a dock from its features. Shape: (N, NUM_FEATURES)."""
    angle = torch.atan2(features[:, 5], features[:, 4])
    return DockError(features[:, 0] / 0.3, features[:, 1] / 0.3, angle)


def precision(error: DockError) -> Tensor:
    """Return how well a robot stands in the dock, from 0 far away to 2. Shape: (N,).

    It falls with the mean distance of two points of the robot, ahead and behind, from their places in the
    dock: one length for errors of place and of heading.
    """
    ahead = _KEY_POINT_M * error.angle.cos() - _KEY_POINT_M
    aside = _KEY_POINT_M * error.angle.sin()
    # A key point of the dock less that of the robot; the rear one has the opposite lever.
    front = torch.hypot(error.x + ahead, error.y + aside)
    rear = torch.hypot(error.x - ahead, error.y - aside)
    distance = 0.5 * (front + rear)
    wide, narrow = _NEAR_M
    # Two widths: the wide one leads to the dock, the narrow one rewards the last centimetres.
    return (-(distance / wide).square()).exp() + (-(distance / narrow).square()).exp()


def is_docked(error: DockError, speed: Tensor) -> Tensor:
    """Return which robots stand in the dock. Shapes: speed (N,) [m/s] -> (N,) bool."""
    is_close = error.distance < TOLERANCE_M
    is_aligned = error.angle.abs() < TOLERANCE_RAD
    return is_close & is_aligned & (speed.abs() < STILL_M_PER_S)


def reward_terms(
    weights: DockRewards, *, progress: Tensor, gain: Tensor, docked: Tensor, collided: Tensor, change: Tensor
) -> Tensor:
    """Return the weighted terms, one column a name in `REWARD_TERMS`. Shape: (N, 6).

    Args:
        weights: weights of the terms.
        progress: metres by which the shortest path to the dock got shorter. Shape: (N,).
        gain: rise of the precision. Shape: (N,).
        docked: mask of the robots in the dock. Shape: (N,).
        collided: mask of the robots that touch something. Shape: (N,).
        change: change of the action. Shape: (N, 2).
    """
    terms = (
        weights.approach * progress.clamp(-_JUMP_M, _JUMP_M),
        weights.precision * gain,
        weights.docked * docked.float(),
        weights.collision * collided.float(),
        weights.turning * change.square().sum(-1),
        weights.time * torch.ones_like(gain),
    )
    return torch.stack(terms, -1)


def dock_mirror() -> Mirror:
    """Return the mirror of a `policy` observation: left and right of the robot change places."""
    # Beam 0 lies on the axis of symmetry; beam k changes places with beam -k.
    beams = Mirror((-torch.arange(NUM_BEAMS)).remainder(NUM_BEAMS), torch.ones(NUM_BEAMS))
    dock = Mirror.signs(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, -1.0)
    return Mirror.concatenate(beams, dock, Mirror.signs(1.0, -1.0), ACTION_MIRROR)
