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
_NEAREST_START_M = 0.03
_FARTHEST_START_M = 2.0
"""Distances of the starts on the way into the dock."""
_GUIDED_M = 0.8
"""Distance from the docked pose at which a robot is clear of the longest guides."""
_ASIDE_M = 0.04
"""Largest distance of a start from the axis between the guides, which leave 6 cm at least."""
_TURNED_RAD = 0.2
_TURNED_RAD_PER_M = 1.5
"""Largest angle from the docked heading at the dock, and its growth with the distance."""
_NARROWER = 0.9
_WIDER = 1.1
"""Factors on a world's tolerances after an episode that docked, and after any other."""
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


def start_on_the_way(share: Tensor) -> Tensor:
    """Return poses ahead of the dock, the farther away the less aligned. Shape: (N, 3) in [0, 1] -> (N, 3).

    Between the guides a robot stands within their room, and beyond them in a widening cone.
    """
    dock_x, dock_y, dock_heading = DOCK
    # The square root would be uniform in the cone; most starts shall be close.
    way = _NEAREST_START_M + (_FARTHEST_START_M - _NEAREST_START_M) * share[:, 0].square()
    most_aside = _ASIDE_M + 0.5 * (way - _GUIDED_M).clamp(min=0.0)
    most_turned = (_TURNED_RAD + _TURNED_RAD_PER_M * way).clamp(max=math.pi)
    aside, turned = (2.0 * share[:, 1:] - 1.0).unbind(-1)
    return torch.stack([dock_x + way, dock_y + most_aside * aside, dock_heading + most_turned * turned], -1)


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


def is_docked(error: DockError, speed: Tensor, tolerance: Tensor) -> Tensor:
    """Return which robots stand in the dock.

    Args:
        error: pose of the dock.
        speed: speed of the robots. Shape: (N,) [m/s].
        tolerance: factor on what counts as docked. Shape: (N,).

    Returns:
        Shape: (N,) bool.
    """
    is_close = error.distance < TOLERANCE_M * tolerance
    is_aligned = error.angle.abs() < TOLERANCE_RAD * tolerance
    return is_close & is_aligned & (speed.abs() < STILL_M_PER_S * tolerance)


def next_tolerance(tolerance: Tensor, docked: Tensor, *, widest: float) -> Tensor:
    """Return the next tolerances, narrower after a success. Shapes: (N,), (N,) bool -> (N,)."""
    # As wide as before where one of two episodes succeeds.
    return (tolerance * torch.where(docked, _NARROWER, _WIDER)).clamp(1.0, widest)


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
