"""Pictures of a dock from above: hall, lidar, docked pose, robot, commands and outcome."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from factory.envs.rendering.plan_view import Circle, Line, Polygon, Scene, rectangle
from factory.envs.tasks.amr import drawing
from factory.envs.tasks.amr.dock_table import DOCK
from factory.envs.tasks.amr.robot import ROBOT_RADIUS_M

if TYPE_CHECKING:
    from factory.envs.tasks.amr.dock import AmrDock

_CONTACT_M = (0.1, 0.3)
"""Depth and width of the charging contacts on the wall."""


def scene_of(env: AmrDock, world: int) -> Scene:
    """Return the picture of one world."""
    pose = env.pose[world].numpy()
    x, y, heading = DOCK
    place = np.array([x, y])
    nose = place + ROBOT_RADIUS_M * np.array([math.cos(heading), math.sin(heading)])
    depth_m, width_m = _CONTACT_M
    contacts = rectangle(np.array([depth_m / 2.0, y]), heading, depth_m, width_m)
    shapes = drawing.hall(env.course.size_m, env.boxes, world)
    shapes.append(Polygon(points=contacts, fill=drawing.GOAL))
    shapes += drawing.lidar(env.lidar.scans[world, 0], pose)
    shapes += drawing.robot(pose, env.twist[world])
    shapes.append(Circle(center=place, radius_m=ROBOT_RADIUS_M, outline=drawing.GOAL))
    shapes.append(Line(points=np.stack([place, nose]), color=drawing.GOAL, width_m=0.03))
    return drawing.finished(env, world, shapes)
