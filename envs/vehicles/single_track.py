"""The dynamic single-track model of a car, batched: one wheel an axle, all driven, tyres that saturate.

Sizes: N cars. The car's frame lies at the centre of mass, x forward and y left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

GRAVITY = 9.81
"""[m/s^2]"""


@dataclass(frozen=True, kw_only=True)
class CarBody:
    """Constants of a car; the defaults are those of a 1:10 racing car.

    Masses, lengths, limits and cornering stiffness are the parameters of F1TENTH's simulator (O'Kelly et al.
    2020, "F1TENTH: An Open-source Evaluation Environment for Continuous Control and Reinforcement Learning").
    """

    mass_kg: float = 3.74
    yaw_inertia_kg_m2: float = 0.04712
    front_m: float = 0.15875
    """Distance of the front axle from the centre of mass."""
    rear_m: float = 0.17145
    """Distance of the rear axle from the centre of mass."""
    height_m: float = 0.074
    """Height of the centre of mass."""
    length_m: float = 0.58
    width_m: float = 0.31
    steering_rad: float = 0.4189
    """Largest steering angle."""
    steering_rad_per_s: float = 3.2
    """Largest rate of the steering angle."""
    acceleration_m_per_s2: float = 9.51
    """Largest acceleration of the drive, and of the brakes."""
    power_speed_m_per_s: float = 7.319
    """Speed above which the drive's power is the limit: its acceleration falls with 1 / speed."""
    front_stiffness: float = 4.718
    """Cornering stiffness of the front axle per unit of load and friction [1/rad]."""
    rear_stiffness: float = 5.4562
    """Cornering stiffness of the rear axle per unit of load and friction [1/rad]."""
    tyre_shape: float = 1.3
    """Shape factor C of the tyres' curve."""
    kinematic_m_per_s: tuple[float, float] = (1.0, 2.0)
    """Speeds between which the model goes over from rolling without slip to tyre forces."""

    @property
    def wheelbase_m(self) -> float:
        """Distance between the axles."""
        return self.front_m + self.rear_m


class CarState(NamedTuple):
    """State of N cars. Shapes: (N,)."""

    x: Tensor
    """Position of the centre of mass [m]."""
    y: Tensor
    yaw: Tensor
    """[rad], not wrapped."""
    forward: Tensor
    """Velocity along the car [m/s]."""
    lateral: Tensor
    """Velocity to the left [m/s]."""
    yaw_rate: Tensor
    """[rad/s]"""
    steering: Tensor
    """Angle of the front wheels [rad]."""
    forward_acceleration: Tensor
    """As an accelerometer in the car measures it, in the last step [m/s^2]."""
    lateral_acceleration: Tensor
    """As an accelerometer in the car measures it, in the last step [m/s^2]."""


class CarConditions(NamedTuple):
    """Values that differ between cars and episodes. Shapes: (N,)."""

    friction: Tensor
    """Coefficient of friction between tyres and road [-]."""
    stiffness: Tensor
    """Factor on the cornering stiffness [-]."""
    steering_lag_s: Tensor
    """Time constant of the steering [s]."""
    steering_offset: Tensor
    """Angle of the wheels where the servo believes in zero [rad]."""


def tyre_curve(slip: Tensor, stiffness: Tensor, shape: float) -> Tensor:
    """Return the lateral force of a tyre per unit of load and friction, in [-1, 1].

    sin(C atan(B slip)) with B = stiffness / C, the magic formula without curvature factor (Pacejka,
    "Tire and Vehicle Dynamics"), as in Liniger et al. 2015 (arXiv:1711.07300).
    """
    return torch.sin(shape * torch.atan(stiffness / shape * slip))


def step_car(
    state: CarState,
    steering_target: Tensor,
    acceleration: Tensor,
    *,
    body: CarBody,
    conditions: CarConditions,
    dt_s: float,
) -> CarState:
    """Return the state after one step of semi-implicit Euler.

    The equations of motion are those of the single-track model (Althoff et al. 2017, "CommonRoad: Composable
    Benchmarks for Motion Planning on Roads"), with load transfer, but with tyres that saturate and share one
    friction circle between driving and cornering. Below walking pace, where slip angles are not defined, the
    car rolls without slip; in between both are blended (Kabzan et al. 2020, arXiv:1905.05150).

    Args:
        state: the cars.
        steering_target: wanted angle of the front wheels [rad]. Shape: (N,).
        acceleration: wanted acceleration along the car [m/s^2]. Shape: (N,).
        body: constants of the cars.
        conditions: friction, stiffness and steering of every car.
        dt_s: length of the step [s]; up to 10 ms is stable.
    """
    steering = _steered(state.steering, steering_target, body=body, conditions=conditions, dt_s=dt_s)
    grip = conditions.friction * GRAVITY
    drive = _driven(state.forward, acceleration, grip=grip, body=body)
    front, rear = _cornering(state, steering, drive, body=body, stiffness=conditions.stiffness)
    motion = _accelerated(state, steering, drive.pull, front, rear, body=body, dt_s=dt_s)

    # Semi-implicit: the new velocities move the car, which keeps a step of 10 ms stable.
    yaw = torch.add(state.yaw, motion.yaw_rate, alpha=dt_s)
    ahead = yaw.cos()
    aside = yaw.sin()
    east = torch.addcmul(motion.forward * ahead, motion.lateral, aside, value=-1.0)
    north = torch.addcmul(motion.forward * aside, motion.lateral, ahead)
    return CarState(
        x=torch.add(state.x, east, alpha=dt_s),
        y=torch.add(state.y, north, alpha=dt_s),
        yaw=yaw,
        forward=motion.forward,
        lateral=motion.lateral,
        yaw_rate=motion.yaw_rate,
        steering=steering,
        forward_acceleration=motion.forward_acceleration,
        lateral_acceleration=motion.lateral_acceleration,
    )


def _steered(
    steering: Tensor, target: Tensor, *, body: CarBody, conditions: CarConditions, dt_s: float
) -> Tensor:
    """Return the angle of the front wheels after a step: a first-order lag with a limited rate [rad]."""
    wanted = (target + conditions.steering_offset).clamp(-body.steering_rad, body.steering_rad)
    rate = (wanted - steering) / conditions.steering_lag_s
    rate = rate.clamp(-body.steering_rad_per_s, body.steering_rad_per_s)
    return torch.add(steering, rate, alpha=dt_s)


class _Drive(NamedTuple):
    """Friction that a car uses to drive and brake, and the rest. Shapes: (N,)."""

    pull: Tensor
    """Acceleration by drive and brakes [m/s^2]."""
    cornering_limit: Tensor
    """Lateral acceleration for which friction is left [m/s^2]."""


def _driven(speed: Tensor, acceleration: Tensor, *, grip: Tensor, body: CarBody) -> _Drive:
    """Return the acceleration by drive and brakes, and the friction that they leave for cornering."""
    # The motor's power bounds the force times the speed: P = m a v.
    strongest = body.acceleration_m_per_s2
    power_limit = strongest * body.power_speed_m_per_s / speed.clamp(min=body.power_speed_m_per_s)
    pull = torch.minimum(acceleration, power_limit).clamp(min=-strongest)

    # Friction circle of all wheels together: (pull / grip)^2 + (cornering / grip)^2 <= 1. Not all of it goes
    # to the pull, so that a car that brakes hard can still be steered.
    used = (pull / grip).clamp(-0.95, 0.95)
    pull = used * grip
    return _Drive(pull, (1.0 - used.square()).sqrt() * grip)


def _cornering(
    state: CarState, steering: Tensor, drive: _Drive, *, body: CarBody, stiffness: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the lateral accelerations that the forces of both axles give the whole car [m/s^2].

    They point across the wheels of each axle. Shapes: (N,).
    """
    # Slip angles lie between the wheels and their velocities. The rear's sign sits in its divisor, which
    # saves an operation.
    rolling = state.forward.clamp(min=body.kinematic_m_per_s[0])
    front_across = torch.add(state.lateral, state.yaw_rate, alpha=body.front_m)
    rear_across = torch.sub(state.lateral, state.yaw_rate, alpha=body.rear_m)
    front_slip = steering - torch.atan(front_across / rolling)
    rear_slip = torch.atan(rear_across / -rolling)

    # The pull acts at the height of the centre of mass and shifts load from front to rear: the front's share
    # is (l_rear - pull h / g) / L.
    transfer = body.height_m / (GRAVITY * body.wheelbase_m)
    front_load = torch.rsub(drive.pull, body.rear_m / body.wheelbase_m, alpha=transfer)

    front_curve = tyre_curve(front_slip, body.front_stiffness * stiffness, body.tyre_shape)
    rear_curve = tyre_curve(rear_slip, body.rear_stiffness * stiffness, body.tyre_shape)
    front = drive.cornering_limit * front_load * front_curve
    rear = drive.cornering_limit * (1.0 - front_load) * rear_curve
    return front, rear


class _Motion(NamedTuple):
    """Velocities after a step, and accelerations in it; see `CarState`. Shapes: (N,)."""

    forward: Tensor
    lateral: Tensor
    yaw_rate: Tensor
    forward_acceleration: Tensor
    lateral_acceleration: Tensor


def _accelerated(
    state: CarState,
    steering: Tensor,
    pull: Tensor,
    front: Tensor,
    rear: Tensor,
    *,
    body: CarBody,
    dt_s: float,
) -> _Motion:
    """Return the motion after a step: tyre forces for a fast car, rolling without slip for a slow one.

    `front` and `rear` are the lateral accelerations of `_cornering`.
    """
    speed = state.forward
    slowest, fastest = body.kinematic_m_per_s
    # 0 where the car rolls without slip, 1 where its tyres slip.
    slips = ((speed - slowest) / (fastest - slowest)).clamp(0.0, 1.0)

    # A rotating frame adds the terms with the yaw rate r: v_x' = a_x + v_y r and v_y' = a_y - v_x r.
    # Where the car rolls without slip, its tyres push it around the bend but do not hold it back.
    front_side = front * steering.cos()
    side = front_side + rear
    turning = speed * state.yaw_rate
    forward_acceleration = torch.addcmul(pull, slips, front * steering.sin(), value=-1.0)
    lateral_acceleration = torch.lerp(turning, side, slips)
    gained = torch.addcmul(forward_acceleration, state.lateral, state.yaw_rate)
    forward = torch.add(speed, gained, alpha=dt_s).clamp(min=0.0)
    lateral = torch.add(state.lateral, side - turning, alpha=dt_s)

    # r' = m (l_front a_front - l_rear a_rear) / I.
    lever = front_side * body.front_m
    torque = torch.sub(lever, rear, alpha=body.rear_m)
    yaw_rate = torch.add(state.yaw_rate, torque, alpha=dt_s * body.mass_kg / body.yaw_inertia_kg_m2)

    # Blend with a car that rolls without slip: r = v tan(steering) / L, and v_y = r l_rear.
    rolling_yaw_rate = forward * steering.tan() * (1.0 / body.wheelbase_m)
    return _Motion(
        forward=forward,
        lateral=torch.lerp(body.rear_m * rolling_yaw_rate, lateral, slips),
        yaw_rate=torch.lerp(rolling_yaw_rate, yaw_rate, slips),
        forward_acceleration=forward_acceleration,
        lateral_acceleration=lateral_acceleration,
    )
