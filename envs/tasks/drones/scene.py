"""Pictures of both drone tasks: a parallel projection of the world, seen from above at an angle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from factory.envs.rendering.plan_view import Circle, Color, Label, Line, Polygon, Scene, Shape
from factory.envs.rendering.trails import Painter, accent, speed_line
from factory.envs.tasks.drones.config import GATE_FRAME_M, GATE_INNER_M, WAYPOINT_REACH_M
from factory.envs.vehicles.quadrotor import rotation

if TYPE_CHECKING:
    from factory.envs.tasks.drones.drone import DroneTask

FLOOR: Color = (205, 207, 203)
GRID: Color = (186, 189, 186)
SHADOW: Color = (40, 44, 52, 70)
NEXT: Color = (240, 150, 20)
AHEAD: Color = (90, 120, 170)
PASSED: Color = (60, 170, 90, 150)
ARM: Color = (35, 39, 46)
ROTOR: Color = (60, 66, 76, 150)
NOSE: Color = (214, 48, 49)
THRUST: Color = (214, 48, 49)
WIND: Color = (70, 140, 200)
_AZIMUTH = 0.5
_ELEVATION = math.radians(35.0)
"""Direction from which the worlds are seen [rad]."""
_FASTEST_M_PER_S = 6.0
"""Speed at which the flown line is as green as it gets."""
_ACCENT_S = 1.0
"""Time for which the outcome of an episode is shown in the next one."""
_SIZE = 2.0
"""Drones are drawn this much larger than they are, as they would be but a few pixels."""
_MARGIN_M = 1.5
"""Room in the picture around the targets."""
_HIGHEST_M = 3.0
_CIRCLE = np.linspace(0.0, 2.0 * math.pi, 17)


def project(points: np.ndarray) -> np.ndarray:
    """Return places in the picture. Shape: (..., 3) -> (..., 2) [m]."""
    right = np.array([math.cos(_AZIMUTH), math.sin(_AZIMUTH), 0.0])
    rise = math.sin(_ELEVATION)
    up = np.array([-math.sin(_AZIMUTH) * rise, math.cos(_AZIMUTH) * rise, math.cos(_ELEVATION)])
    return np.stack([points @ right, points @ up], -1)


class DronePainter(Painter):
    """Draws the worlds of an environment; targets are balls."""

    _env: DroneTask

    def target_shapes(self, target: np.ndarray, color: Color) -> list[Shape]:
        """Return one target. Shape: (F,)."""
        fill = (*color[:3], 90)
        return [Circle(center=project(target[:3]), radius_m=WAYPOINT_REACH_M, outline=color, fill=fill)]

    def _scene(self, world: int) -> Scene:
        env = self._env
        course = env.course[world].numpy(force=True)
        # The origin is where races start, or the middle of the room.
        low = course[:, :2].min(0).clip(max=0.0) - _MARGIN_M
        high = course[:, :2].max(0).clip(min=0.0) + _MARGIN_M
        ends = itertools.product((low[0], high[0]), (low[1], high[1]), (0.0, _HIGHEST_M))
        seen = project(np.array(list(ends)))
        middle = 0.5 * (seen.max(0) + seen.min(0))
        shapes = [*_floor(low, high), *self._targets(world, course), *self._trail(world)]
        shapes += [*self._wind(world, low), *self._drone(world)]
        return Scene(
            shapes=shapes,
            center=(float(middle[0]), float(middle[1])),
            # Wide pictures have room at both sides.
            span_m=float(max(np.ptp(seen[:, 1]), 0.6 * np.ptp(seen[:, 0]))) + 0.5,
            caption=self._caption(world),
            accent=accent(env, world, tally=env.tally, was_good=env.last_was_success, shown_s=_ACCENT_S),
        )

    def _targets(self, world: int, course: np.ndarray) -> Iterator[Shape]:
        """Yield all targets with their posts and numbers, those behind first."""
        passed = int(self._env.passed[world])
        behind = np.argsort(course[:, 0] * math.sin(_AZIMUTH) - course[:, 1] * math.cos(_AZIMUTH))
        for number in behind:
            color = AHEAD
            if number < passed:
                color = PASSED
            elif number == passed:
                color = NEXT
            place = course[number, :3]
            foot = place * (1.0, 1.0, 0.0)
            yield Line(points=project(np.stack([foot, place])), color=(*color[:3], 110), width_m=0.03)
            yield Circle(center=project(foot), radius_m=0.06, fill=(*color[:3], 110))
            yield from self.target_shapes(course[number], color)
            yield Label(center=project(place), text=str(number + 1), color=ARM, height_m=0.4)

    def _trail(self, world: int) -> list[Shape]:
        """Return the line of this episode, red where the drone is slow and green where it is fast."""
        env = self._env
        state = env.state
        u, v = project(state.position.t().numpy(force=True)).T
        speed = state.velocity.norm(dim=0)
        steps = int(env.episode_steps[world])
        line = self._trails.add(world, steps=steps, x=speed.new_tensor(u), y=speed.new_tensor(v), speed=speed)
        return speed_line(line, fastest_m_per_s=_FASTEST_M_PER_S, width_m=0.06)

    def _wind(self, world: int, corner: np.ndarray) -> list[Shape]:
        """Return an arrow on the floor, as long as the way of the air in a second."""
        wind = self._env.conditions.wind[:, world].numpy(force=True)
        start = np.array([corner[0] + 1.0, corner[1] + 1.0, 0.0])
        return _arrow(start, start + wind, WIND, width_m=0.08)

    def _drone(self, world: int) -> list[Shape]:
        """Return the shadow, the drone with its nose in red, and its thrust command as an arrow."""
        env = self._env
        body = env.airframe
        state = env.state
        place = state.position[:, world].numpy(force=True)
        matrix = rotation(state.attitude)[:, :, world].numpy(force=True)
        ground = place * (1.0, 1.0, 0.0)
        disc = 0.3 * np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE), np.zeros_like(_CIRCLE)], -1)
        shapes: list[Shape] = [
            Polygon(points=project(ground + disc), fill=SHADOW),
            Line(points=project(np.stack([ground, place])), color=SHADOW, width_m=0.02),
        ]
        arm = _SIZE * np.array([body.rotor_x_m, body.rotor_y_m, 0.0])
        for ahead, aside in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            hub = place + matrix @ (arm * (ahead, aside, 0.0))
            shapes.append(Line(points=project(np.stack([place, hub])), color=ARM, width_m=0.06))
            fill = NOSE
            if ahead < 0:
                fill = ROTOR
            rotor = hub + _SIZE * 0.064 / 0.3 * disc @ matrix.T
            shapes.append(Polygon(points=project(rotor), fill=(*fill[:3], 170)))
        thrust = 1.0 + float(env.actions[world, :4].mean())
        if env.cfg.action == "rates":
            thrust = 1.0 + float(env.actions[world, 0])
        return shapes + _arrow(place, place + 0.8 * thrust * matrix[:, 2], THRUST, width_m=0.05)

    def _caption(self, world: int) -> str:
        env = self._env
        command = " ".join(f"{value:+.2f}" for value in env.actions[world, :4].tolist())
        mass, _, thrust, *_ = env.drawn[world].tolist()
        wind = float(env.conditions.wind[:, world].norm())
        successes, failures = env.tally[world].tolist()
        speed = float(env.state.velocity[:, world].norm())
        last = ""
        if successes:
            last = f"   last {float(env.last_flight_s[world]):.2f} s"
        return (
            f"{speed:.1f} m/s   {env.cfg.action} {command}\n"
            f"mass x {mass:.2f}   thrust x {thrust:.2f}   wind {wind:.1f} m/s   "
            f"latency {1e3 * float(env.latency_s[world]):.0f} ms\n"
            f"{int(env.passed[world])} of {env.cfg.num_targets}   "
            f"flown {successes:.0f}   failed {failures:.0f}{last}"
        )


class GatePainter(DronePainter):
    """Draws targets as square frames."""

    def target_shapes(self, target: np.ndarray, color: Color) -> list[Shape]:
        """Return one gate. Shape: (F,)."""
        across = np.array([-target[4], target[3], 0.0])
        up = np.array([0.0, 0.0, 1.0])
        signs = ((1, 1), (-1, 1), (-1, -1), (1, -1), (1, 1))
        outer, inner = (
            np.array([target[:3] + half_m * (side * across + rise * up) for side, rise in signs])
            for half_m in (GATE_INNER_M + GATE_FRAME_M, GATE_INNER_M)
        )
        # A ring as one polygon: along the outer edge, and back along the inner one.
        return [Polygon(points=project(np.concatenate([outer, inner[::-1]])), fill=color)]


def _floor(low: np.ndarray, high: np.ndarray) -> Iterator[Shape]:
    """Yield the floor with a line each metre. Shapes: (2,) [m]."""
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    yield Polygon(points=project(np.pad(corners, ((0, 0), (0, 1)))), fill=FLOOR)
    for axis in (0, 1):
        for place in range(math.ceil(low[axis]), math.floor(high[axis]) + 1):
            ends = np.zeros((2, 3))
            ends[:, axis] = place
            ends[:, 1 - axis] = low[1 - axis], high[1 - axis]
            yield Line(points=project(ends), color=GRID)


def _arrow(start: np.ndarray, end: np.ndarray, color: Color, *, width_m: float) -> list[Shape]:
    """Return an arrow between two points. Shapes: (3,) [m]."""
    points = project(np.stack([start, end]))
    way = points[1] - points[0]
    length = math.hypot(*way)
    if length < 1e-3:
        return []
    ahead = way / length * 2.5 * width_m
    aside = np.array([-ahead[1], ahead[0]])
    head = np.array([points[1] + ahead, points[1] + aside, points[1] - aside])
    return [Line(points=points, color=color, width_m=width_m), Polygon(points=head, fill=color)]
