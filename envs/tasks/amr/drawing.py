"""Pictures of a hall from above: map, lidar, movers, path, goal, commands and outcome."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from factory.envs.rendering.plan_view import Circle, Color, Line, Polygon, Rays, Scene, Shape, rectangle
from factory.envs.tasks.amr.obstacles import Boxes
from factory.envs.tasks.amr.robot import GOAL_RADIUS_M, ROBOT_RADIUS_M

if TYPE_CHECKING:
    from factory.envs.tasks.amr.navigate import AmrNavigate

_BOX = (92, 99, 112)
_FLOOR = (246, 244, 238)
_BEAM = (220, 70, 50, 70)
_HIT = (220, 70, 50)
_NOSE = (255, 255, 255)
_COMMAND = (255, 180, 0)
ROBOT: Color = (30, 110, 200)
GOAL: Color = (20, 150, 70)
_MOVER = (150, 90, 170)
_WAITING = (200, 170, 210)
_ENDS: dict[str, Color] = {"success": (20, 150, 70), "timeout": (240, 160, 0)}
_COLLISION: Color = (210, 30, 30)
SHOWN_S = 1.5
"""Time for which the end of an episode frames the picture of the next one [s]."""
_ARROW_S = 1.0
"""Time for which arrows of commands and movers look ahead [s]."""


def scene_of(env: AmrNavigate, world: int) -> Scene:
    """Return the picture of one world."""
    pose = env.pose[world].numpy()
    goal = env.goal[world].numpy()
    shapes = hall(env.course.size_m, env.boxes, world)
    shapes.append(Circle(center=goal, radius_m=GOAL_RADIUS_M, fill=(*GOAL, 90), outline=GOAL))
    shapes.append(Line(points=np.stack([pose[:2], goal]), color=(*GOAL, 110)))
    shapes += lidar(env.lidar.scans[world, 0], pose)
    shapes += _movers(env, world)
    shapes += robot(pose, env.twist[world])
    return finished(env, world, shapes)


def finished(env: AmrNavigate, world: int, shapes: list[Shape]) -> Scene:
    """Return the picture with these shapes, framed by the colour of the end of the episode before."""
    accent = None
    last = int(env.last_outcome[world])
    if last >= 0 and float(env.elapsed_s[world]) < SHOWN_S:
        accent = outcome_color(env.outcome_names[last])
    size = env.course.size_m
    return Scene(
        shapes=shapes,
        center=(size / 2.0, size / 2.0),
        span_m=size + 0.4,
        caption=env.captions()[world],
        accent=accent,
    )


def captions(env: AmrNavigate) -> list[str]:
    """Return time, speeds and the end of the episode before, of every world."""
    rows = zip(env.elapsed_s.tolist(), env.twist.tolist(), env.last_outcome.tolist(), strict=True)
    lines = []
    for time_s, (speed, turn_rate), last in rows:
        line = f"{time_s:4.1f} s   {speed:.2f} m/s  {turn_rate:+.2f} rad/s"
        if last >= 0:
            line += f"   last: {env.outcome_names[last].replace('_', ' ')}"
        lines.append(line)
    return lines


def outcome_color(name: str) -> Color:
    """Return the colour of an outcome."""
    return _ENDS.get(name, _COLLISION)


def hall(size_m: float, boxes: Boxes, world: int) -> list[Shape]:
    """Return floor and boxes of a hall."""
    corners = np.array([[0.0, 0.0], [size_m, 0.0], [size_m, size_m], [0.0, size_m]])
    center, half, axis = (part[world].numpy() for part in boxes)
    exists = center[:, 0] >= 0.0
    return [
        Polygon(points=corners, fill=_FLOOR),
        *(
            Polygon(points=rectangle(c, math.atan2(a[1], a[0]), 2.0 * h[0], 2.0 * h[1]), fill=_BOX)
            for c, h, a in zip(center[exists], half[exists], axis[exists], strict=True)
        ),
    ]


def lidar(scan: Tensor, pose: np.ndarray, *, color: Color = _BEAM) -> list[Shape]:
    """Return the beams as the policy sees them, noise included. Shapes: (L,) [m], (3,) [m, m, rad]."""
    position = pose[:2]
    ranges = scan.numpy()
    angles = pose[2] + np.arange(len(ranges)) * (math.tau / len(ranges))
    ends = position + ranges[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    beams = Rays(origin=position, ends=ends, color=color)
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


def robot(pose: np.ndarray, twist: Tensor, *, color: Color = ROBOT) -> list[Shape]:
    """Return the robot, its heading, and the path of the next second at its speed and turn rate.

    Shapes: (3,) [m, m, rad], (2,).
    """
    position = pose[:2]
    heading = float(pose[2])
    speed, turn_rate = twist.tolist()
    times = np.linspace(0.0, _ARROW_S, 11)[1:]
    # Euler steps of the commanded arc, short enough to look smooth.
    headings = heading + turn_rate * times
    steps = np.stack([np.cos(headings), np.sin(headings)], -1) * speed * _ARROW_S / len(times)
    path = np.concatenate([position[None], position + np.cumsum(steps, axis=0)])
    nose = position + ROBOT_RADIUS_M * np.array([math.cos(heading), math.sin(heading)])
    return [
        Circle(center=position, radius_m=ROBOT_RADIUS_M, fill=color),
        Line(points=np.stack([position, nose]), color=_NOSE, width_m=0.08),
        Line(points=path, color=_COMMAND, width_m=0.06),
    ]
