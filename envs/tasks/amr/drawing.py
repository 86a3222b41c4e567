"""Pictures of a hall from above: map, lidar, movers, path, goal, commands and outcome."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from factory.envs.rendering.plan_view import Circle, Line, Polygon, Rays, Scene, Shape, rectangle
from factory.envs.tasks.amr.robot import GOAL_RADIUS_M, ROBOT_RADIUS_M

if TYPE_CHECKING:
    from factory.envs.tasks.amr.navigate import AmrNavigate

_BOX = (92, 99, 112)
_FLOOR = (246, 244, 238)
_BEAM = (220, 70, 50, 70)
_HIT = (220, 70, 50)
_ROBOT = (30, 110, 200)
_COMMAND = (255, 180, 0)
_GOAL = (20, 150, 70)
_MOVER = (150, 90, 170)
_WAITING = (200, 170, 210)
_ENDS = {"success": (20, 150, 70), "timeout": (240, 160, 0)}
_COLLISION = (210, 30, 30)
_SHOWN_S = 1.5
"""Time for which the end of an episode frames the picture of the next one [s]."""
_ARROW_S = 1.0
"""Time for which arrows of commands and movers look ahead [s]."""


def scene_of(env: AmrNavigate, world: int) -> Scene:
    """Return the picture of one world."""
    size = env.course.size_m
    x, y, heading = env.pose[world].tolist()
    position = np.array([x, y])
    hall = Polygon(points=np.array([[0, 0], [size, 0], [size, size], [0, size]]), fill=_FLOOR)
    goal = env.goal[world].numpy()
    shapes: list[Shape] = [hall, *_boxes(env, world)]
    shapes.append(Circle(center=goal, radius_m=GOAL_RADIUS_M, fill=(*_GOAL, 90), outline=_GOAL))
    shapes.append(Line(points=np.stack([position, goal]), color=(*_GOAL, 110)))
    shapes += _lidar(env, world, position, heading)
    shapes += _movers(env, world)
    shapes += _robot(env, world, position, heading)
    accent = None
    last = int(env.last_outcome[world])
    if last >= 0 and float(env.elapsed_s[world]) < _SHOWN_S:
        accent = _ENDS.get(env.outcome_names[last], _COLLISION)
    return Scene(
        shapes=shapes,
        center=(size / 2.0, size / 2.0),
        span_m=size + 0.4,
        caption=env.captions()[world],
        accent=accent,
    )


def _boxes(env: AmrNavigate, world: int) -> list[Shape]:
    center, half, axis = (part[world].numpy() for part in env.boxes)
    exists = center[:, 0] >= 0.0
    return [
        Polygon(points=rectangle(c, math.atan2(a[1], a[0]), 2.0 * h[0], 2.0 * h[1]), fill=_BOX)
        for c, h, a in zip(center[exists], half[exists], axis[exists], strict=True)
    ]


def _lidar(env: AmrNavigate, world: int, position: np.ndarray, heading: float) -> list[Shape]:
    """Return the beams as the policy sees them, noise included."""
    ranges = env.lidar.scans[world, 0].numpy()
    angles = heading + np.arange(len(ranges)) * (math.tau / len(ranges))
    ends = position + ranges[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    beams = Rays(origin=position, ends=ends, color=_BEAM)
    return [beams, *(Circle(center=end, radius_m=0.05, fill=_HIT) for end in ends)]


def _movers(env: AmrNavigate, world: int) -> list[Shape]:
    movers = env.movers
    waits = env.yielding[world].tolist()
    shapes: list[Shape] = []
    for index, is_waiting in enumerate(waits):
        center = movers.position[world, index].numpy()
        color = _MOVER
        if is_waiting:
            color = _WAITING
        shapes.append(Circle(center=center, radius_m=float(movers.radius[world, index]), fill=color))
        reach = (movers.heading[world, index] * movers.speed[world, index] * _ARROW_S).numpy()
        shapes.append(Line(points=np.stack([center, center + reach]), color=color, width_m=0.06))
    return shapes


def _robot(env: AmrNavigate, world: int, position: np.ndarray, heading: float) -> list[Shape]:
    """Return the robot, its heading, and the path of the next second at the commanded speeds."""
    speed, turn_rate = env.twist[world].tolist()
    times = np.linspace(0.0, _ARROW_S, 11)[1:]
    # Euler steps of the commanded arc, short enough to look smooth.
    headings = heading + turn_rate * times
    steps = np.stack([np.cos(headings), np.sin(headings)], -1) * speed * _ARROW_S / len(times)
    path = np.concatenate([position[None], position + np.cumsum(steps, axis=0)])
    nose = position + ROBOT_RADIUS_M * np.array([math.cos(heading), math.sin(heading)])
    return [
        Circle(center=position, radius_m=ROBOT_RADIUS_M, fill=_ROBOT),
        Line(points=np.stack([position, nose]), color=(255, 255, 255), width_m=0.08),
        Line(points=path, color=_COMMAND, width_m=0.06),
    ]
