"""The kinematic single-track model of a car, batched: wheels that roll without slip, forward and backward.

Sizes: N cars. Poses are those of the rear axle's middle, x forward and y left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RollingCar:
    """Constants of a car; the defaults are those of a compact passenger car."""

    length_m: float = 4.5
    width_m: float = 1.8
    wheelbase_m: float = 2.7
    rear_overhang_m: float = 0.9
    """Distance from the rear axle to the rear end."""
    steering_rad: float = 0.6
    """Largest steering angle."""
    steering_rad_per_s: float = 0.8
    """Largest rate of the steering angle."""
    acceleration_m_per_s2: float = 2.0
    """Largest change of the speed, also when braking [m/s^2]."""

    @property
    def center_m(self) -> float:
        """Distance from the rear axle forward to the middle of the body."""
        return 0.5 * self.length_m - self.rear_overhang_m

    @property
    def turning_radius_m(self) -> float:
        """Radius of the tightest circle of the rear axle."""
        return self.wheelbase_m / math.tan(self.steering_rad)


class RollingState(NamedTuple):
    """State of N cars. Shapes: (N,)."""

    x: Tensor
    """Position of the rear axle [m]."""
    y: Tensor
    yaw: Tensor
    """[rad], not wrapped."""
    speed: Tensor
    """Negative backward [m/s]."""
    steering: Tensor
    """Angle of the front wheels [rad]."""


def roll(
    state: RollingState,
    steering_target: Tensor,
    speed_target: Tensor,
    *,
    car: RollingCar,
    steering_lag_s: Tensor,
    dt_s: float,
) -> RollingState:
    """Return the state after one step.

    x' = v cos(yaw), y' = v sin(yaw), yaw' = v tan(steering) / wheelbase (Rajamani, "Vehicle Dynamics and
    Control", 2.2), along the arc of the mean yaw.

    Args:
        state: the cars.
        steering_target: wanted angle of the front wheels [rad]. Shape: (N,).
        speed_target: wanted speed [m/s]. Shape: (N,).
        car: constants of the cars.
        steering_lag_s: time constant of each car's steering [s]. Shape: (N,).
        dt_s: length of the step [s].
    """
    wanted = steering_target.clamp(-car.steering_rad, car.steering_rad)
    # A lag shorter than the step would overshoot.
    rate = (wanted - state.steering) / steering_lag_s.clamp(min=dt_s)
    steering = state.steering + dt_s * rate.clamp(-car.steering_rad_per_s, car.steering_rad_per_s)

    most = dt_s * car.acceleration_m_per_s2
    speed = state.speed + (speed_target - state.speed).clamp(-most, most)

    # Midpoint rule: a chord of the arc points in the direction of the mean yaw.
    turn = dt_s * speed * steering.tan() / car.wheelbase_m
    mean_yaw = state.yaw + 0.5 * turn
    return RollingState(
        x=state.x + dt_s * speed * mean_yaw.cos(),
        y=state.y + dt_s * speed * mean_yaw.sin(),
        yaw=state.yaw + turn,
        speed=speed,
        steering=steering,
    )
