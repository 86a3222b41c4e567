"""The lane keeper of every car: pure pursuit of a point on its route."""

from __future__ import annotations

from torch import Tensor

from factory.envs.tasks.traffic.map_table import MapTable
from factory.envs.tasks.traffic.perception import Cars
from factory.envs.tasks.traffic.vehicles import pursuit

_LOOK_AHEAD_S = 0.8
_LEAST_LOOK_AHEAD_M = 4.0


def lane_keeping(table: MapTable, cars: Cars) -> Tensor:
    """Return the angle of the front wheels that follows the route [rad]. Shape: (S, C)."""
    motion = cars.motion
    pose = motion.pose
    ahead = (_LOOK_AHEAD_S * motion.speed).clamp(min=_LEAST_LOOK_AHEAD_M)
    point = table.at(cars.route, cars.along_m + ahead)
    dx = point[..., 0] - motion.x
    dy = point[..., 1] - motion.y
    # The point in the car's own axes.
    ahead_m = pose.cos * dx + pose.sin * dy
    left_m = pose.cos * dy - pose.sin * dx
    return pursuit(ahead_m, left_m, length_m=cars.length_m)
