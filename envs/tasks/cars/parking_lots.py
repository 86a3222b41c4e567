"""Parking lots, drawn at random: a free slot in a row of parked cars beside an aisle, and a car for it.

The slot's frame: its mouth is on the x axis around the origin, it reaches down to its back wall, and the
aisle lies above it up to a wall. Sizes: S lots, K parked cars, N worlds.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from factory.envs.vehicles.boxes import Boxes, gap
from factory.envs.vehicles.kinematic import RollingCar

SPLITS = {"train": 1, "test": 2}
"""Seeds of the two sets."""
CAR = RollingCar()
DEPTH_M = 5.2
"""Distance from the slot's mouth to the wall at its back."""
GOAL_Y_M = -2.5
GOAL_YAW = -0.5 * math.pi
"""Pose of the parked car's middle: nose in, in the middle of the slot."""
SIDE_M = 14.0
"""Distance of the walls at the ends of the aisle."""
BAYS = (-2, -1, 1, 2)
"""Places of the K parked cars in the row; the free slot is place 0."""
SLOT_WIDTH_M = (2.5, 3.0)
AISLE_M = (6.0, 7.5)
PARKED_REACH_M = (1.2, 2.7)
"""Farthest point of a parked car from the middle of its place, across and along it [m]."""
_LEAST_GAP_M = 0.1
"""Free space around the car at the start."""


@dataclass(frozen=True)
class ParkingLots:
    """S lots as tables."""

    start: Tensor
    """Pose (x, y, yaw) of the rear axle at the start. Shape: (S, 3) [m, m, rad]."""
    slot_width: Tensor
    """Shape: (S,) [m]."""
    aisle: Tensor
    """Width of the aisle. Shape: (S,) [m]."""
    parked: Tensor
    """x, y, yaw, half length and half width of the parked cars. Shape: (S, K, 5)."""
    mouth: Tensor
    """Corners (x, y) that narrow the slot, of the left and of the right neighbour. Shape: (S, 4) [m]."""

    def to(self, device: torch.device) -> ParkingLots:
        """Return the lots on `device`."""
        return ParkingLots(*(value.to(device) for value in vars(self).values()))

    def mirrored(self) -> ParkingLots:
        """Return the mirror images in the y axis."""
        x, y, yaw = self.start.unbind(-1)
        parked = self.parked.flip(1)
        parked_x, parked_y, parked_yaw, *sizes = parked.unbind(-1)
        return ParkingLots(
            start=torch.stack([-x, y, math.pi - yaw], -1),
            slot_width=self.slot_width,
            aisle=self.aisle,
            parked=torch.stack([-parked_x, parked_y, math.pi - parked_yaw, *sizes], -1),
            mouth=self.mouth[:, [2, 3, 0, 1]] * self.mouth.new_tensor([-1.0, 1.0, -1.0, 1.0]),
        )


def body_box(x: Tensor, y: Tensor, yaw: Tensor) -> Boxes:
    """Return the bodies of cars whose rear axles have these poses."""
    half_length = torch.full_like(x, 0.5 * CAR.length_m)
    half_width = torch.full_like(x, 0.5 * CAR.width_m)
    return Boxes(x + CAR.center_m * yaw.cos(), y + CAR.center_m * yaw.sin(), yaw, half_length, half_width)


def wall_gaps(body: Boxes, aisle: Tensor) -> Tensor:
    """Return the distance to the walls left, right, above and behind the slot [m]; negative beyond one.

    Shapes: (...) -> (..., 4).
    """
    reach_x = body.reach(torch.zeros_like(body.yaw))
    reach_y = body.reach(torch.full_like(body.yaw, 0.5 * math.pi))
    gaps = [
        body.x - reach_x + SIDE_M,
        SIDE_M - body.x - reach_x,
        aisle - body.y - reach_y,
        body.y - reach_y + DEPTH_M,
    ]
    return torch.stack(gaps, -1)


def parked_gaps(body: Boxes, parked: Tensor) -> Tensor:
    """Return the gap to each parked car [m], negative in contact. Shapes: (N,), (N, K, 5) -> (N, K)."""
    return gap(Boxes(*(value[:, None] for value in body)), Boxes(*parked.unbind(-1)))


@functools.lru_cache(maxsize=4)
def draw_lots(split: str, count: int, curriculum_share: float) -> ParkingLots:
    """Return lots of a split; equal calls return equal lots.

    Args:
        split: train or test.
        count: number of lots.
        curriculum_share: share of the starts that lie on the way into the slot; the other cars come along the
            aisle.

    Raises:
        KeyError: the split is unknown.
    """
    generator = torch.Generator().manual_seed(SPLITS[split])
    # Some starts touch something: twice as many are drawn as are wanted, until enough are free.
    kept: list[ParkingLots] = []
    while sum(lots.slot_width.numel() for lots in kept) < count:
        drawn = _draw(2 * count, curriculum_share, generator)
        body = body_box(*drawn.start.unbind(-1))
        # Rejection keeps the distribution of the free ones, and equal seeds keep equal lots.
        clearance = torch.cat([parked_gaps(body, drawn.parked), wall_gaps(body, drawn.aisle)], -1).amin(-1)
        is_free = clearance > _LEAST_GAP_M
        kept.append(ParkingLots(*(value[is_free] for value in vars(drawn).values())))
    tables = zip(*(vars(lots).values() for lots in kept), strict=True)
    return ParkingLots(*(torch.cat(table)[:count] for table in tables))


def _draw(count: int, curriculum_share: float, generator: torch.Generator) -> ParkingLots:
    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *size, generator=generator)

    slot_width = uniform(*SLOT_WIDTH_M)
    aisle = uniform(*AISLE_M)
    bays = torch.tensor(BAYS, dtype=torch.float32)
    places = (len(BAYS),)
    nose_out = (torch.rand(count, *places, generator=generator) < 0.5).float()
    parked = torch.stack(
        [
            bays * slot_width[:, None] + uniform(-0.12, 0.12, *places),
            GOAL_Y_M + uniform(-0.25, 0.25, *places),
            GOAL_YAW + math.pi * nose_out + uniform(-0.05, 0.05, *places),
            uniform(2.0, 2.4, *places),
            uniform(0.85, 0.95, *places),
        ],
        -1,
    )
    on_the_way = torch.rand(count, 1, generator=generator) < curriculum_share
    start = torch.where(on_the_way, _on_the_way(count, generator), _in_the_aisle(aisle, generator))
    return ParkingLots(start=start, slot_width=slot_width, aisle=aisle, parked=parked, mouth=_mouth(parked))


def _mouth(parked: Tensor) -> Tensor:
    """Return the corners that narrow the slot's mouth, left and right. Shapes: (S, K, 5) -> (S, 4)."""
    neighbours = Boxes(*parked[:, 1:3].unbind(-1))
    # The left neighbour reaches to the right, the right one to the left, both up to the aisle.
    towards = torch.tensor([1.0, -1.0])
    inner = neighbours.x + towards * neighbours.reach(torch.zeros_like(neighbours.yaw))
    upper = neighbours.y + neighbours.reach(torch.full_like(neighbours.yaw, 0.5 * math.pi))
    return torch.stack([inner, upper], -1).flatten(1)


def _in_the_aisle(aisle: Tensor, generator: torch.Generator) -> Tensor:
    """Return poses of cars that come along the aisle, from both sides. Shape: (S, 3)."""
    distance, y, turn, side = torch.rand(4, aisle.numel(), generator=generator)
    sign = 1.0 - 2.0 * (side < 0.5).float()
    # A car on the left drives to the right.
    yaw = math.pi * (sign > 0).float() + 0.3 * (turn - 0.5)
    margin = 1.8
    return torch.stack([sign * (5.0 + 5.0 * distance), margin + y * (aisle - 2.0 * margin), yaw], -1)


def _on_the_way(count: int, generator: torch.Generator) -> Tensor:
    """Return poses of a car that leaves the slot backward, straight and then in an arc. Shape: (S, 3)."""
    far, straight, radius, side, *errors = torch.rand(7, count, generator=generator)
    distance = far * (1.5 + 3.5 * straight + 0.5 * math.pi * CAR.turning_radius_m)
    leave = 1.5 + 3.5 * straight
    radius = CAR.turning_radius_m * (1.0 + 0.5 * radius)
    # First straight back for `leave`, the rest along the arc.
    angle = (distance - leave).clamp(min=0.0) / radius
    sign = 1.0 - 2.0 * (side < 0.5).float()
    # The goal is given for the middle of the car, the arc for its rear axle.
    y = GOAL_Y_M + CAR.center_m + torch.minimum(distance, leave) + radius * angle.sin()
    x = sign * radius * (1.0 - angle.cos())
    error_x, error_y, error_yaw = (2.0 * error - 1.0 for error in errors)
    yaw = GOAL_YAW + sign * angle + 0.1 * error_yaw
    return torch.stack([x + 0.2 * error_x, y + 0.2 * error_y, yaw], -1)
