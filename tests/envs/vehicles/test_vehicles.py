"""Vehicles obey their equations, and gaps between boxes are those of geometry."""

from __future__ import annotations

import math

import pytest
import torch

from factory.envs.vehicles.boxes import Boxes, gap
from factory.envs.vehicles.kinematic import RollingCar, RollingState, roll
from factory.envs.vehicles.latency import delayed
from factory.envs.vehicles.single_track import (
    GRAVITY,
    CarBody,
    CarConditions,
    CarState,
    step_car,
    tyre_curve,
)

BODY = CarBody()


def conditions(friction: float, count: int) -> CarConditions:
    """Return equal conditions for some cars, with a steering that is fast and straight."""
    ones = torch.ones(count)
    return CarConditions(friction * ones, ones, 0.02 * ones, 0.0 * ones)


def driven(speed: torch.Tensor, steering: float, friction: float, *, steps: int = 300) -> CarState:
    """Return cars that have held speed and steering target for a while."""
    zero = torch.zeros_like(speed)
    state = CarState(*[zero] * len(CarState._fields))._replace(forward=speed)
    target = torch.full_like(speed, steering)
    drawn = conditions(friction, len(speed))
    for _ in range(steps):
        pull = 5.0 * (speed - state.forward)
        state = step_car(state, target, pull, body=BODY, conditions=drawn, dt_s=0.01)
    return state


def test_slow_car_drives_the_circle_of_its_wheels() -> None:
    """Below walking pace the yaw rate is v tan(steering) / wheelbase."""
    state = driven(torch.tensor([0.3, 0.8]), 0.2, 0.8)
    assert state.yaw_rate.tolist() == pytest.approx(
        (state.forward * math.tan(0.2) / BODY.wheelbase_m).tolist(), rel=1e-3
    )


def test_fast_car_understeers_and_cannot_corner_harder_than_friction_allows() -> None:
    """The steady turn balances v * yaw rate and tyre force, which friction limits; less grip, wider turns."""
    speed = torch.tensor([3.0, 5.0])
    wet = driven(speed, 0.3, 0.6)
    dry = driven(speed, 0.3, 1.1)
    for state, friction in ((wet, 0.6), (dry, 1.1)):
        assert (state.lateral_acceleration.abs() < friction * GRAVITY).all()
        needed = state.forward * state.yaw_rate
        assert needed.tolist() == pytest.approx(state.lateral_acceleration.tolist(), rel=0.05)
    assert (wet.yaw_rate < dry.yaw_rate).all()


def test_brakes_share_the_friction_with_nothing_and_stop_the_car_for_good() -> None:
    """Full brakes slow at 0.95 of the friction; a car at rest stays at rest."""
    state = driven(torch.tensor([8.0]), 0.0, 0.7, steps=1)
    drawn = conditions(0.7, 1)
    brake = torch.tensor([-9.0])
    later = step_car(state, torch.zeros(1), brake, body=BODY, conditions=drawn, dt_s=0.01)
    assert float(state.forward - later.forward) == pytest.approx(0.01 * 0.95 * 0.7 * GRAVITY, rel=1e-3)
    for _ in range(300):
        later = step_car(later, torch.zeros(1), brake, body=BODY, conditions=drawn, dt_s=0.01)
    assert later.forward.item() == 0.0
    assert later.x == step_car(later, torch.zeros(1), brake, body=BODY, conditions=drawn, dt_s=0.01).x


def test_tyre_force_rises_with_the_stiffness_and_saturates() -> None:
    """The slope at zero is the stiffness, the largest value one, and the curve is odd."""
    slip = torch.linspace(-1.5, 1.5, 301)
    force = tyre_curve(slip, torch.tensor(4.7), 1.3)
    assert float(force[151] / slip[151]) == pytest.approx(4.7, rel=1e-2)
    assert 0.99 < float(force.max()) <= 1.0
    assert torch.allclose(force, -force.flip(0), atol=1e-6)


def test_actions_arrive_after_their_latency() -> None:
    """With 3 substeps to a step, an action given now arrives in substep 2 with a latency of 2, and so on."""
    history = torch.tensor([[[10.0], [20.0], [30.0]]]).expand(5, 3, 1)
    arrived = delayed(history, torch.tensor([0, 2, 3, 5, 9]), num_substeps=3)[..., 0]
    assert arrived.T.tolist() == [[10, 10, 10], [20, 20, 10], [20, 20, 20], [30, 30, 20], [30, 30, 30]]


@pytest.mark.parametrize("speed", [1.0, -1.0])
def test_rolling_car_returns_to_its_start_after_a_circle(speed: float) -> None:
    """At full lock the rear axle drives a circle of the turning radius, forward and backward."""
    car = RollingCar()
    lag = torch.tensor([0.1])
    around_s = 2.0 * math.pi * car.turning_radius_m
    zero = torch.zeros(1)
    state = RollingState(zero, zero, zero, torch.tensor([speed]), torch.tensor([car.steering_rad]))
    farthest = 0.0
    target = torch.tensor([car.steering_rad])
    for _ in range(round(around_s / 0.05)):
        state = roll(state, target, torch.tensor([speed]), car=car, steering_lag_s=lag, dt_s=0.05)
        farthest = max(farthest, float(torch.hypot(state.x, state.y)))
    assert farthest == pytest.approx(2.0 * car.turning_radius_m, rel=1e-2)
    assert abs(float(state.x)) < 0.05 and abs(float(state.y)) < 0.05


def test_gap_is_negative_exactly_where_boxes_overlap() -> None:
    """Of 400 pairs, those overlap that share one of a grid of points; else their true distance is no less."""
    draw = torch.rand(2, 5, 400, generator=torch.Generator().manual_seed(0))
    first, second = (Boxes(4.0 * d[0], 4.0 * d[1], 6.0 * d[2], 0.3 + d[3], 0.2 + 0.5 * d[4]) for d in draw)
    found = gap(first, second)
    grid = torch.linspace(-1.0, 1.0, 41)
    ahead, aside = (axis.flatten()[:, None] for axis in torch.meshgrid(grid, grid, indexing="ij"))
    x = first.x + ahead * first.half_length * first.yaw.cos() - aside * first.half_width * first.yaw.sin()
    y = first.y + ahead * first.half_length * first.yaw.sin() + aside * first.half_width * first.yaw.cos()
    offset_x = x - second.x
    offset_y = y - second.y
    along = (offset_x * second.yaw.cos() + offset_y * second.yaw.sin()).abs() - second.half_length
    across = (offset_y * second.yaw.cos() - offset_x * second.yaw.sin()).abs() - second.half_width
    distance = torch.hypot(along.clamp(min=0), across.clamp(min=0)).amin(0)
    overlaps = (torch.maximum(along, across) < 0).any(0)
    # Boxes that hardly touch may do so between two points of the grid.
    clear = found.abs() > 0.06
    assert clear.sum() > 300
    assert torch.equal((found < 0)[clear], overlaps[clear])
    assert (distance[found > 0] >= found[found > 0] - 1e-5).all()
