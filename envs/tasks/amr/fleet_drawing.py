"""Pictures of a fleet from above: hall, stations, robots with their goals and commands, a lidar, outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from factory.envs.rendering.plan_view import Circle, Color, Label, Line, Scene, Shape
from factory.envs.tasks.amr import drawing
from factory.envs.tasks.amr.fleet_maps import SIZE_M
from factory.envs.tasks.amr.robot import GOAL_RADIUS_M

if TYPE_CHECKING:
    from factory.envs.tasks.amr.fleet import AmrFleet

_COLORS: tuple[Color, ...] = (
    (30, 110, 200),
    (150, 90, 170),
    (0, 140, 140),
    (190, 120, 40),
    (90, 140, 50),
    (200, 80, 130),
    (100, 100, 200),
    (120, 110, 90),
)
"""Colours of robots and of their goals."""
_STATION: Color = (205, 200, 185)
_BEAM: Color = (30, 110, 200, 60)


def scene_of(env: AmrFleet, world: int) -> Scene:
    """Return the picture of one world, with the lidar of its first robot."""
    robots = env.shape[1]
    first = world * robots
    rows = range(first, first + robots)
    hall = int(env.hall[first])
    shapes = drawing.hall(SIZE_M, env.boxes, first)
    shapes += [
        Circle(center=place, radius_m=0.12, fill=_STATION) for place in env.maps.stations[hall].numpy()
    ]
    shapes += drawing.lidar(env.lidar.scans[first, 0], env.pose[first].numpy(), color=_BEAM)
    for row in rows:
        shapes += _robot(env, row, _COLORS[(row - first) % len(_COLORS)])
    for row in rows:
        shapes += _end(env, row)
    speed = float(env.twist[first : first + robots, 0].mean())
    caption = f"hall {hall}   {robots} robots, {speed:.2f} m/s"
    middle = SIZE_M / 2.0
    return Scene(shapes=shapes, center=(middle, middle), span_m=SIZE_M + 0.4, caption=caption)


def _robot(env: AmrFleet, row: int, color: Color) -> list[Shape]:
    """Return a robot with its command, its goal, and a line that joins them."""
    pose = env.pose[row].numpy()
    goal = env.goal[row].numpy()
    return [
        Circle(center=goal, radius_m=GOAL_RADIUS_M, fill=(*color, 90), outline=color),
        Line(points=np.stack([pose[:2], goal]), color=(*color, 110)),
        *drawing.robot(pose, env.twist[row], color=color),
    ]


def _end(env: AmrFleet, row: int) -> list[Shape]:
    """Return a mark with the outcome of a robot's last episode at its place, for a short time."""
    last = int(env.last_outcome[row])
    if last < 0 or float(env.elapsed_s[row]) >= drawing.SHOWN_S:
        return []
    name = env.outcome_names[last]
    color = drawing.outcome_color(name)
    center = env.ended_at[row].numpy()
    # Of two robots that have met, one name stands above and one below.
    above_m = 0.65 - 1.3 * (row % 2)
    place = center + np.array([0.0, above_m])
    return [
        Circle(center=center, radius_m=0.45, fill=(*color, 90), outline=color),
        Label(center=place, text=name.replace("_", " "), color=color, height_m=0.3),
    ]
