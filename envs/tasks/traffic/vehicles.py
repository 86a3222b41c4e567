"""Cars in the plane: a kinematic single-track model and contacts of oriented boxes.

Shapes: (...) is any batch of cars.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WIDTH_M = 1.9
"""Width of every car [m]."""
LEAST_LENGTH_M = 3.5
MOST_LENGTH_M = 6.0
"""Lengths of cars [m]."""
MOST_ACCELERATION = 3.0
MOST_BRAKING = 6.0
"""Acceleration of full throttle, deceleration of full braking [m/s^2]."""
MOST_STEERING = 0.6
"""Largest angle of the front wheels [rad]."""
MOST_CORRECTION = 0.3
"""Largest difference of that angle from the lane keeper's that a driver asks for [rad]."""
TOP_SPEED = 12.0
"""Speed that no car exceeds [m/s]."""
_STEERING_LAG_S = 0.2
"""Time constant of the steering [s]."""
_DRAG = 0.1
"""Deceleration of a car without throttle by its speed [1/s]."""
_WHEELBASE = 0.6
"""Wheelbase as a share of a car's length."""
_GRIP = 7.0
"""Largest lateral acceleration; a faster bend is driven wider [m/s^2]."""


class Pose(NamedTuple):
    """Centres and directions of cars. Shapes: (...)."""

    x: Tensor
    y: Tensor
    cos: Tensor
    sin: Tensor


class Motion(NamedTuple):
    """Pose and motion of cars. Shapes: (...)."""

    x: Tensor
    """[m]"""
    y: Tensor
    """[m]"""
    heading: Tensor
    """[rad]"""
    speed: Tensor
    """[m/s], never negative: cars do not reverse."""
    steering: Tensor
    """Angle of the front wheels [rad]."""

    @property
    def pose(self) -> Pose:
        """Centres and directions."""
        return Pose(self.x, self.y, self.heading.cos(), self.heading.sin())


def drive(motion: Motion, acceleration: Tensor, steering: Tensor, *, length_m: Tensor, dt_s: float) -> Motion:
    """Return the motion after a step with an acceleration and a commanded angle of the front wheels.

    Kinematic single-track model about the centre of the car, whose curvature is limited by the grip of the
    tyres; midpoint rule.

    Args:
        motion: motion before the step.
        acceleration: [m/s^2].
        steering: [rad]; the wheels follow with a lag.
        length_m: length of the cars [m].
        dt_s: length of the step [s].
    """
    # First-order lag, exact for a constant command: the decay is exp(-dt / tau).
    decay = 2.718281828459045 ** (-dt_s / _STEERING_LAG_S)
    turned = steering + (motion.steering - steering) * decay
    speed = (motion.speed + (acceleration - _DRAG * motion.speed) * dt_s).clamp(0.0, TOP_SPEED)
    mean_speed = 0.5 * (motion.speed + speed)

    # Curvature k = tan(delta) cos(beta) / wheelbase with tan(beta) = tan(delta) / 2, and v^2 |k| <= grip
    wheelbase = _WHEELBASE * length_m
    tangent = (0.5 * (motion.steering + turned)).tan()
    curvature = tangent * (1.0 + 0.25 * tangent.square()).rsqrt() / wheelbase
    most = _GRIP / mean_speed.square().clamp(min=1e-2)
    curvature = torch.minimum(torch.maximum(curvature, -most), most)

    # The centre moves at the slip angle beta to the car's axis: sin(beta) = k wheelbase / 2
    slip = 0.5 * wheelbase * curvature
    travelled = mean_speed * dt_s
    turn = travelled * curvature
    course = motion.heading + 0.5 * turn + slip
    return Motion(
        x=motion.x + travelled * course.cos(),
        y=motion.y + travelled * course.sin(),
        heading=motion.heading + turn,
        speed=speed,
        steering=turned,
    )


class Relative(NamedTuple):
    """Other cars as seen by a car: place and direction in its own axes. Shapes: (..., cars, cars)."""

    ahead_m: Tensor
    left_m: Tensor
    cos: Tensor
    sin: Tensor


def relative(pose: Pose, others: Pose | None = None) -> Relative:
    """Return every car as seen by every car of its scene; [..., i, j] is car j seen by car i.

    Shapes: (..., cars) -> (..., cars, cars).
    """
    if others is None:
        others = pose
    cos = pose.cos[..., :, None]
    sin = pose.sin[..., :, None]
    dx = others.x[..., None, :] - pose.x[..., :, None]
    dy = others.y[..., None, :] - pose.y[..., :, None]
    return Relative(
        ahead_m=cos * dx + sin * dy,
        left_m=cos * dy - sin * dx,
        cos=cos * others.cos[..., None, :] + sin * others.sin[..., None, :],
        sin=cos * others.sin[..., None, :] - sin * others.cos[..., None, :],
    )


def overlaps(seen: Relative, half_length_m: Tensor) -> Tensor:
    """Return the pairs of cars whose boxes overlap, without the cars themselves.

    Two boxes are apart if they are along one of their four axes (separating axis theorem).
    Shapes: (..., cars, cars), (..., cars) -> (..., cars, cars) bool.
    """
    half_width = 0.5 * WIDTH_M
    own = half_length_m[..., :, None]
    other = half_length_m[..., None, :]
    cos = seen.cos.abs()
    sin = seen.sin.abs()
    # Reach of the other box along the car's own two axes.
    along = seen.ahead_m.abs() < own + other * cos + half_width * sin
    across = seen.left_m.abs() < half_width + other * sin + half_width * cos
    meets = along & across
    # The other car's axes are tested in its own view, which is the transposed entry.
    both = meets & meets.transpose(-1, -2)
    return both & ~torch.eye(both.shape[-1], dtype=torch.bool, device=both.device)


def struck_from_behind(seen: Relative) -> Tensor:
    """Return the cars that a car touching them from behind has struck: [..., i, j] for car j striking car i.

    The striking car is behind and drives in about the same direction. Shapes: (..., cars, cars) -> bool.
    """
    # Within 45 degrees to the rear, and driving within 45 degrees of the own direction.
    is_behind = seen.ahead_m < -seen.left_m.abs()
    return is_behind & (seen.cos > 0.7)


def pursuit(ahead_m: Tensor, left_m: Tensor, *, length_m: Tensor) -> Tensor:
    """Return the steering that leads to a point on a circle (pure pursuit, Coulter 1992) [rad].

    Shapes: point in the car's axes (...), (...) [m] and lengths (...) [m] -> (...).
    """
    # The circle through the car's centre, tangent to its axis, and the point: k = 2 y / (x^2 + y^2)
    curvature = 2.0 * left_m / (ahead_m.square() + left_m.square()).clamp(min=1.0)
    wheelbase = _WHEELBASE * length_m
    return (curvature * wheelbase).atan().clamp(-MOST_STEERING, MOST_STEERING)
