"""Pictures of the parking task: the lot, the wanted place, the driven line, the car's commands."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from factory.envs.rendering.plan_view import Color, Line, Polygon, Scene, Shape, rectangle
from factory.envs.rendering.trails import Painter, accent
from factory.envs.tasks.cars.parking_lots import CAR, DEPTH_M, GOAL_Y_M, GOAL_YAW, SIDE_M

if TYPE_CHECKING:
    from factory.envs.tasks.cars.park import CarPark

SURFACE: Color = (178, 181, 188)
PAINT: Color = (250, 250, 250)
PARKED: Color = (92, 104, 125)
GLASS: Color = (45, 52, 60)
RUBBER: Color = (25, 27, 30)
TARGET: Color = (60, 170, 90, 110)
AHEAD: Color = (214, 48, 49, 150)
BACK: Color = (30, 95, 190, 150)
CAR_PAINT: Color = (214, 48, 49)
_ACCENT_S = 1.5
"""Time for which the outcome of an episode is shown in the next one."""
_LONGEST_LINE = 600


class ParkPainter(Painter):
    """Draws the worlds of an environment."""

    _env: CarPark

    def _scene(self, world: int) -> Scene:
        env = self._env
        lot = int(env.lot[world])
        aisle_m = float(env.lots.aisle[lot])
        parked = env.lots.parked[lot].numpy(force=True)
        shapes = _lot(aisle_m, float(env.lots.slot_width[lot]))
        for x, y, yaw, half_length, half_width in parked.tolist():
            shapes += _car(np.array([x, y]), yaw, 2.0 * half_length, 2.0 * half_width, PARKED)
        place = np.array([0.0, GOAL_Y_M])
        shapes.append(Polygon(points=rectangle(place, GOAL_YAW, CAR.length_m, CAR.width_m), fill=TARGET))
        shapes += self._driven_line(world)
        shapes += self._own_car(world)
        return Scene(
            shapes=shapes,
            center=(0.0, 0.5 * (aisle_m - DEPTH_M)),
            span_m=aisle_m + DEPTH_M + 3.0,
            caption=self._caption(world),
            accent=accent(env, world, tally=env.tally, was_good=env.last_was_parked, shown_s=_ACCENT_S),
        )

    def _driven_line(self, world: int) -> list[Shape]:
        """Return the line of the rear axle in this episode: red forward, blue backward."""
        env = self._env
        state = env.state
        steps = int(env.episode_steps[world])
        line = self._trails.add(world, steps=steps, x=state.x, y=state.y, speed=state.speed)
        pieces: list[Shape] = []
        recent = line[-_LONGEST_LINE:]
        for (x, y, _), (next_x, next_y, speed) in itertools.pairwise(recent):
            colour = AHEAD
            if speed < 0.0:
                colour = BACK
            pieces.append(Line(points=np.array([[x, y], [next_x, next_y]]), color=colour, width_m=0.1))
        return pieces

    def _own_car(self, world: int) -> list[Shape]:
        env = self._env
        state = env.state
        yaw = float(state.yaw[world])
        axle = np.array([float(state.x[world]), float(state.y[world])])
        ahead = np.array([np.cos(yaw), np.sin(yaw)])
        left = np.array([-ahead[1], ahead[0]])
        shapes = _car(axle + CAR.center_m * ahead, yaw, CAR.length_m, CAR.width_m, CAR_PAINT)
        # The steered front wheels show what the car is about to do.
        wheel_yaw = yaw + float(state.steering[world])
        for side in (-0.4, 0.4):
            wheel = axle + CAR.wheelbase_m * ahead + side * CAR.width_m * left
            shapes.append(Polygon(points=rectangle(wheel, wheel_yaw, 0.65, 0.22), fill=RUBBER))
        return shapes

    def _caption(self, world: int) -> str:
        env = self._env
        steering, speed = env.actions[world, :2].tolist()
        nearest_m = float(env.gaps(env.body())[world].amin())
        moves = float(env.state.speed[world])
        parked, contacts = env.tally[world].tolist()
        return (
            f"{moves:+.1f} m/s (wanted {2.0 * speed:+.1f})   steering {steering:+.2f}\n"
            f"nearest {nearest_m:.2f} m   turnarounds {float(env.num_turnarounds[world]):.0f}\n"
            f"parked {parked:.0f}   contacts {contacts:.0f}"
        )


def _lot(aisle_m: float, slot_width_m: float) -> list[Shape]:
    """Return the paved area, and the lines between the places of the row."""
    ends = (-SIDE_M, SIDE_M)
    area = np.array([[ends[0], -DEPTH_M], [ends[1], -DEPTH_M], [ends[1], aisle_m], [ends[0], aisle_m]])
    shapes: list[Shape] = [
        Polygon(points=area, fill=SURFACE),
        Line(points=np.concatenate([area, area[:1]]), color=GLASS, width_m=0.2),
    ]
    for place in range(-3, 3):
        x = (place + 0.5) * slot_width_m
        shapes.append(Line(points=np.array([[x, -DEPTH_M], [x, 0.0]]), color=PAINT, width_m=0.1))
    return shapes


def _car(middle: np.ndarray, yaw: float, length_m: float, width_m: float, paint: Color) -> list[Shape]:
    """Return a car's body and windows, the windscreen toward its front."""
    ahead = np.array([np.cos(yaw), np.sin(yaw)])
    cabin = middle - 0.05 * length_m * ahead
    roof = middle - 0.08 * length_m * ahead
    return [
        Polygon(points=rectangle(middle, yaw, length_m, width_m), fill=paint),
        Polygon(points=rectangle(cabin, yaw, 0.5 * length_m, 0.82 * width_m), fill=GLASS),
        Polygon(points=rectangle(roof, yaw, 0.28 * length_m, 0.78 * width_m), fill=paint),
    ]
