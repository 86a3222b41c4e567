"""Cars: the single-track model, contacts of boxes, blame, and rule drivers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from factory.envs.tasks.traffic.drivers import idm_acceleration
from factory.envs.tasks.traffic.vehicles import (
    WIDTH_M,
    Motion,
    Pose,
    drive,
    overlaps,
    relative,
    struck_from_behind,
)


def motion(*, speed: float, steering: float = 0.0) -> Motion:
    zero = torch.zeros(1)
    return Motion(zero, zero, zero, zero + speed, zero + steering)


def test_a_steady_turn_is_a_circle() -> None:
    """The centre drives on the circle that the wheels' angle and the wheelbase give."""
    car = motion(speed=3.0, steering=0.3)
    length_m = torch.tensor([5.0])
    places = []
    for _ in range(200):
        # The throttle makes up for the drag.
        car = drive(car, 0.1 * car.speed, torch.tensor([0.3]), length_m=length_m, dt_s=0.1)
        places.append((float(car.x), float(car.y)))
    # R = sqrt((wheelbase / tan delta)^2 + (wheelbase / 2)^2) about the centre of the car.
    wheelbase = 0.6 * 5.0
    radius = math.hypot(wheelbase / math.tan(0.3), wheelbase / 2)
    # Three points far from each other give the circle's own radius.
    a, b, c = (complex(*places[index]) for index in (0, 60, 120))
    area = abs(((b - a).conjugate() * (c - a)).imag) / 2
    assert abs(a - b) * abs(b - c) * abs(c - a) / (4 * area) == pytest.approx(radius, rel=0.01)


def test_grip_limits_the_turn() -> None:
    """A fast car turns no faster than 7 m/s^2 of lateral acceleration allow; nobody drives backwards."""
    car = motion(speed=10.0, steering=0.6)
    turned = drive(car, torch.ones(1), torch.tensor([0.6]), length_m=torch.tensor([4.0]), dt_s=0.1)
    assert float(turned.heading) / 0.1 == pytest.approx(7.0 / 10.0, rel=0.02)
    stopped = drive(motion(speed=0.2), torch.tensor([-6.0]), torch.zeros(1), length_m=torch.ones(1), dt_s=0.1)
    assert float(stopped.speed) == 0.0


def poses(*places: tuple[float, float, float]) -> Pose:
    x, y, heading = torch.tensor(places).unbind(-1)
    return Pose(x, y, heading.cos(), heading.sin())


def corners(pose: Pose, index: int, half_length_m: float) -> Tensor:
    """Return points all over a car's box. Shape: (n, 2)."""
    along, across = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 21), indexing="ij")
    along = along.flatten() * half_length_m
    across = across.flatten() * WIDTH_M / 2
    cos, sin = pose.cos[index], pose.sin[index]
    return torch.stack(
        [pose.x[index] + cos * along - sin * across, pose.y[index] + sin * along + cos * across], 1
    )


def test_contacts_are_those_of_the_boxes() -> None:
    """Random pairs touch if a point of one box lies in the other, but for hair's breadths."""
    generator = torch.Generator().manual_seed(0)
    touched = 0
    for _ in range(100):
        draw = torch.rand(2, 3, generator=generator)
        pose = poses(*[(7.0 * float(x), 7.0 * float(y), 6.3 * float(h)) for x, y, h in draw])
        half = torch.tensor([2.0, 3.0])
        found = overlaps(relative(pose), half)
        assert bool(found[0, 1]) == bool(found[1, 0]) and not found.diagonal().any()
        points = corners(pose, 0, 2.0) - torch.stack([pose.x[1], pose.y[1]])
        ahead = points @ torch.stack([pose.cos[1], pose.sin[1]])
        left = points @ torch.stack([-pose.sin[1], pose.cos[1]])
        # Distance of the other box's points beyond the faces of this one.
        excess = torch.maximum(ahead.abs() - 3.0, left.abs() - WIDTH_M / 2).min()
        if abs(float(excess)) > 0.15:
            assert bool(found[0, 1]) == (float(excess) < 0.0)
        touched += bool(found[0, 1])
    assert 10 < touched < 90


def test_only_the_follower_is_to_blame() -> None:
    """A car that is hit from behind in its own direction is struck; in a crossing nobody is."""
    queue = relative(poses((0.0, 0.0, 0.0), (4.0, 0.3, 0.1)))
    struck = struck_from_behind(queue)
    assert struck.tolist() == [[False, False], [True, False]]
    crossing = relative(poses((0.0, 0.0, 0.0), (2.0, -1.0, math.pi / 2)))
    assert not struck_from_behind(crossing).any()


def test_intelligent_driver() -> None:
    """It speeds up on a free road, keeps still at its speed, and brakes hard for an obstacle at rest."""
    speed = torch.tensor([0.0, 10.0, 10.0])
    gap_m = torch.tensor([1e3, 1e3, 15.0])
    found = idm_acceleration(speed, torch.full((3,), 10.0), gap_m, torch.tensor([0.0, 0.0, 10.0]))
    assert float(found[0]) > 1.9 and abs(float(found[1])) < 0.05 and float(found[2]) == -6.0
