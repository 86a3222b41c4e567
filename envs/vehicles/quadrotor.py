"""A quadrotor, batched: a rigid body, four rotors that lag, rotor drag in wind, and a rate controller.

Sizes: N drones. The world's z axis points up. The body's frame lies at the centre of mass, x forward, y left
and z up. Rotors: front left, front right, back left, back right. Components come first, (3, N), so that every
operation runs over contiguous memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

GRAVITY = 9.81
"""[m/s^2]"""


@dataclass(frozen=True, kw_only=True)
class QuadrotorBody:
    """Constants of a quadrotor; the defaults are those of a racing drone with 5-inch propellers.

    Mass, inertia, rotors and their limit are the parameters of the Agilicious platform (Foehn et al. 2022,
    "Agilicious: Open-source and open-hardware agile quadrotor for vision-based flight", arXiv:2307.06100).
    """

    mass_kg: float = 0.752
    inertia_kg_m2: tuple[float, float, float] = (0.0025, 0.0021, 0.0043)
    """About x, y and z."""
    rotor_x_m: float = 0.075
    """Distance of the rotors from the centre of mass, forward and backward."""
    rotor_y_m: float = 0.1
    """Distance of the rotors from the centre of mass, to both sides."""
    rotor_torque_m: float = 0.022
    """Torque about a rotor's axis per unit of its thrust."""
    rotor_thrust_n: float = 8.5
    """Largest thrust of a rotor."""
    rate_gain_per_s: tuple[float, float, float] = (20.0, 20.0, 10.0)
    """Angular acceleration that the rate controller asks for, per unit of the rates' error."""
    radius_m: float = 0.16
    """Radius of a sphere around the drone, for contacts."""

    @property
    def weight_n(self) -> float:
        """Weight of the drone as it is built."""
        return self.mass_kg * GRAVITY


class QuadrotorState(NamedTuple):
    """State of N drones."""

    position: Tensor
    """Shape: (3, N) [m]."""
    velocity: Tensor
    """In the world's frame. Shape: (3, N) [m/s]."""
    attitude: Tensor
    """Unit quaternion (w, x, y, z) from the body's frame to the world's. Shape: (4, N)."""
    rates: Tensor
    """Angular velocity in the body's frame. Shape: (3, N) [rad/s]."""
    rotors: Tensor
    """Thrust of a drone as it is built at the present speeds of the rotors. Shape: (4, N) [N]."""


class QuadrotorConditions(NamedTuple):
    """Values that differ between drones and episodes."""

    mass: Tensor
    """Factor on the mass. Shape: (N,)."""
    inertia: Tensor
    """Factor on the moments of inertia. Shape: (N,)."""
    thrust: Tensor
    """Factor on the thrust of all rotors. Shape: (N,)."""
    drag_per_s: Tensor
    """Rotor drag: deceleration per unit of the airspeed across the rotors' axes. Shape: (N,)."""
    motor_lag_s: Tensor
    """Time constant of the rotors' thrust. Shape: (N,)."""
    wind: Tensor
    """Velocity of the air in the world's frame. Shape: (3, N) [m/s]."""


class Quadrotor:
    """The equations of motion of `body`, on one device."""

    def __init__(self, body: QuadrotorBody, device: torch.device) -> None:
        """Place the constants on `device`."""
        self.body = body
        side = [1.0, -1.0, 1.0, -1.0]
        front = [1.0, 1.0, -1.0, -1.0]
        # Diagonal rotors turn the same way.
        spin = [1.0, -1.0, -1.0, 1.0]
        signs = torch.tensor([[1.0] * 4, side, [-sign for sign in front], spin], device=device)
        arms = torch.tensor([1.0, body.rotor_y_m, body.rotor_x_m, body.rotor_torque_m], device=device)
        self._mixer = (signs * arms[:, None])[:, :, None]
        """Total thrust and torques from the thrust of every rotor. Shape: (4, 4, 1)."""
        # The rows of `signs` are orthogonal and have length 2.
        self._allocation = (signs / (4.0 * arms[:, None])).t().contiguous()[:, :, None]
        self._inertia = torch.tensor(body.inertia_kg_m2, device=device)[:, None]
        self._rate_gain = torch.tensor(body.rate_gain_per_s, device=device)[:, None]
        self._gravity = torch.tensor([0.0, 0.0, GRAVITY], device=device)[:, None]

    def rotors_for(self, thrust: Tensor, rates: Tensor, *, present_rates: Tensor) -> Tensor:
        """Return the thrust of every rotor that the rate controller asks for. Shape: (4, N) [N].

        It knows the drone as it is built: torque = inertia * gain * (wanted rates - rates).

        Args:
            thrust: wanted thrust of all rotors together. Shape: (N,) [N].
            rates: wanted angular velocity in the body's frame. Shape: (3, N) [rad/s].
            present_rates: angular velocity as the gyroscope measures it. Shape: (3, N) [rad/s].
        """
        torque = self._inertia * self._rate_gain * (rates - present_rates)
        return (self._allocation * torch.cat([thrust[None], torque])).sum(1)

    def step(
        self, state: QuadrotorState, rotors: Tensor, *, conditions: QuadrotorConditions, dt_s: float
    ) -> QuadrotorState:
        """Return the state after one step of semi-implicit Euler.

        The rigid body's equations are those of Furrer et al. 2016, "RotorS: A Modular Gazebo MAV Simulator
        Framework"; drag across the rotors' axes is that of Faessler et al. 2018, "Differential Flatness of
        Quadrotor Dynamics Subject to Rotor Drag" (arXiv:1712.02402); thrust follows its command with a
        first-order lag.

        Args:
            state: the drones.
            rotors: wanted thrust of every rotor. Shape: (4, N) [N].
            conditions: values that differ between drones.
            dt_s: length of the step [s]; up to 5 ms is stable with the rate controller.
        """
        # The rate controller may ask for more than rotors can do; they cannot push at all.
        wanted = rotors.clamp(0.0, self.body.rotor_thrust_n)
        # 1 - exp(-dt / tau), exact for a command that stays the same over the step.
        lag_share = -torch.expm1(-dt_s / conditions.motor_lag_s)
        rotors = torch.lerp(state.rotors, wanted, lag_share)
        forces = (self._mixer * rotors).sum(1) * conditions.thrust

        # Euler's equation; the factor on all moments of inertia cancels in the gyroscopic part.
        inertia = self._inertia
        gyroscopic = torch.linalg.cross(state.rates, inertia * state.rates, dim=0)
        turning = (forces[1:] / conditions.inertia - gyroscopic) / inertia
        # Semi-implicit: the new rates turn the drone below, and the new velocity moves it.
        rates = torch.add(state.rates, turning, alpha=dt_s)

        # q' = q * (0, rates) / 2.
        scalar = state.attitude[:1]
        vector = state.attitude[1:]
        change = torch.cat(
            [
                -(vector * rates).sum(0, keepdim=True),
                torch.addcmul(torch.linalg.cross(vector, rates, dim=0), scalar, rates),
            ]
        )
        attitude = torch.add(state.attitude, change, alpha=0.5 * dt_s)
        # A step along the tangent leaves the unit sphere by a little.
        attitude = attitude / attitude.norm(dim=0)

        up = rotor_axis(attitude)
        air = conditions.wind - state.velocity
        across = air - up * (up * air).sum(0)
        lift = up * (forces[0] / (self.body.mass_kg * conditions.mass))
        gained = torch.addcmul(lift, across, conditions.drag_per_s) - self._gravity
        velocity = torch.add(state.velocity, gained, alpha=dt_s)
        position = torch.add(state.position, velocity, alpha=dt_s)
        return QuadrotorState(position, velocity, attitude, rates, rotors)


def rotor_axis(attitude: Tensor) -> Tensor:
    """Return the body's z axis, along which the rotors pull. Shape: (4, N) -> (3, N)."""
    w, x, y, z = attitude.unbind(0)
    return torch.stack([2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)])


def rotation(attitude: Tensor) -> Tensor:
    """Return matrices from the body's frame to the world's. Shape: (4, N) -> (3, 3, N)."""
    w, x, y, z = attitude.unbind(0)
    ahead = torch.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)])
    left = torch.stack([2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)])
    return torch.stack([ahead, left, rotor_axis(attitude)], 1)


def to_body(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Express vectors of the world's frame in the body's. Shapes: (V, 3, N), (3, 3, N) -> (V, 3, N)."""
    return (vectors[:, :, None] * matrix).sum(1)
