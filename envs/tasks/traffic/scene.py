"""Pictures of traffic: lanes, cars with their intentions, and outcomes, seen from above."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from factory.envs.rendering.plan_view import Circle, Color, Label, Line, Polygon, Scene, Shape, rectangle
from factory.envs.tasks.traffic.map_table import MapTable
from factory.envs.tasks.traffic.perception import HORIZONS_S, Cars
from factory.envs.tasks.traffic.vehicles import WIDTH_M

_ROAD: Color = (96, 99, 104)
_MIDDLE: Color = (178, 180, 176)
_LEARNED: Color = (52, 120, 200)
_RULED: Color = (150, 150, 160)
_WINDOW: Color = (225, 235, 245)
_INTENTION: Color = (250, 205, 80)
_OUTCOMES: dict[str, Color] = {
    "success": (50, 170, 90),
    "collision": (210, 50, 50),
    "off_road": (230, 130, 40),
    "timeout": (130, 90, 170),
}
_SHOWN_STEPS = 10
"""Control steps for which an outcome is shown."""


class Ends(NamedTuple):
    """The last end of every row's episode, for the film. Shapes: (S, C)."""

    x: torch.Tensor
    y: torch.Tensor
    outcome: torch.Tensor
    age: torch.Tensor
    """Control steps since then."""


def draw_scene(
    table: MapTable,
    cars: Cars,
    ends: Ends,
    *,
    world: int,
    map_: int,
    names: tuple[str, ...],
    title: str,
    num_ruled: int,
) -> Scene:
    """Return the picture of a scene.

    Args:
        table: maps.
        cars: cars of all scenes.
        ends: last outcomes.
        world: index of the scene.
        map_: its map.
        names: names of the outcomes.
        title: first line of the caption.
        num_ruled: cars of a scene that rules drive.
    """
    ways = _routes(table, map_)
    shapes: list[Shape] = [Line(points=way, color=_ROAD, width_m=3.6) for way in ways]
    shapes += [Line(points=way, color=_MIDDLE, width_m=0.15) for way in ways]
    count = cars.route.shape[1]
    # All cars first, then the outcomes, which must not be hidden below a car.
    for car in range(count):
        if cars.is_driving[world, car]:
            color = _LEARNED
            if car >= count - num_ruled:
                color = _RULED
            shapes += _car(table, cars, world, car, color)
    for car in range(count):
        if ends.age[world, car] < _SHOWN_STEPS:
            shapes += _end(ends, world, car, names)

    # The whole junction is visible, with a margin of 5 m.
    points = np.concatenate(ways)
    low = points.min(0)
    high = points.max(0)
    middle = 0.5 * (low + high)
    span_m = float((high - low).max()) + 10.0
    driving = int(cars.is_driving[world].sum())
    speed = float((cars.motion.speed[world] * cars.is_driving[world]).sum()) / max(driving, 1)
    caption = f"{title}\n{driving} cars, {speed:.1f} m/s"
    return Scene(shapes=shapes, center=(middle[0], middle[1]), span_m=span_m, caption=caption)


def _routes(table: MapTable, map_: int) -> list[np.ndarray]:
    """Return the points of a map's routes up to their goals, every second metre. Shapes: (n, 2) [m]."""
    first_entry = int(table.first_entry[map_])
    last_entry = first_entry + int(table.num_entries[map_]) - 1
    first = int(table.first_route[first_entry])
    last = int(table.first_route[last_entry] + table.num_routes[last_entry]) - 1
    ways = []
    for route in range(first, last + 1):
        at = torch.arange(0.0, float(table.length_m[route]), 2.0, device=table.length_m.device)
        points = table.at(torch.full_like(at, route, dtype=torch.int64), at)
        ways.append(points[:, :2].cpu().numpy())
    return ways


def _car(table: MapTable, cars: Cars, world: int, car: int, color: Color) -> list[Shape]:
    """Return a car, its windscreen, and the way to where it will be in 2 s."""
    motion = cars.motion
    center = np.array([float(motion.x[world, car]), float(motion.y[world, car])])
    heading = float(motion.heading[world, car])
    length_m = float(cars.length_m[world, car])
    # As other cars expect it: along its route at its present speed.
    times = torch.linspace(0.0, HORIZONS_S[-1], 8, device=motion.x.device)
    along_m = cars.along_m[world, car] + times * motion.speed[world, car]
    way = table.at(cars.route[world, car].expand_as(along_m), along_m)[:, :2].cpu().numpy()
    ahead = np.array([np.cos(heading), np.sin(heading)])
    windscreen = rectangle(center + 0.15 * length_m * ahead, heading, 0.15 * length_m, 0.8 * WIDTH_M)
    return [
        Line(points=way, color=_INTENTION, width_m=0.4),
        Circle(center=way[-1], radius_m=0.7, fill=_INTENTION),
        Polygon(points=rectangle(center, heading, length_m, WIDTH_M), fill=color),
        Polygon(points=windscreen, fill=_WINDOW),
    ]


def _end(ends: Ends, world: int, car: int, names: tuple[str, ...]) -> list[Shape]:
    """Return a mark at the place where an episode ended, with the name of its outcome."""
    name = names[int(ends.outcome[world, car])]
    color = _OUTCOMES.get(name, _OUTCOMES["timeout"])
    center = np.array([float(ends.x[world, car]), float(ends.y[world, car])])
    return [
        Circle(center=center, radius_m=3.0, fill=(*color, 120), outline=color),
        Label(center=center + np.array([0.0, 5.0]), text=name.replace("_", " "), color=color, height_m=4.5),
    ]
