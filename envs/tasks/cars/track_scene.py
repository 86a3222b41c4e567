"""Pictures of the race track: the track, the driven line, the car's preview and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from factory.envs.rendering.plan_view import Circle, Color, Line, Polygon, Scene, Shape, rectangle
from factory.envs.rendering.trails import Painter, accent, speed_line
from factory.envs.tasks.cars.closed_tracks import NUM_POINTS

if TYPE_CHECKING:
    from factory.envs.tasks.cars.track import CarTrack

ASPHALT: Color = (84, 89, 98)
EDGE: Color = (250, 250, 250)
CENTRE: Color = (255, 255, 255, 70)
PREVIEW: Color = (255, 196, 61)
CAR: Color = (214, 48, 49)
GLASS: Color = (45, 52, 60)
_FASTEST_M_PER_S = 9.0
"""Speed at which the driven line is as green as it gets."""
_ACCENT_S = 1.0
"""Time for which the outcome of an episode is shown in the next one."""


class TrackPainter(Painter):
    """Draws the worlds of an environment."""

    _env: CarTrack

    def _scene(self, world: int) -> Scene:
        env = self._env
        track = int(env.track[world])
        table = env.tracks.line[track * NUM_POINTS : (track + 1) * NUM_POINTS].numpy(force=True)
        middle = 0.5 * (table[:, :2].max(0) + table[:, :2].min(0))
        span_m = float(np.ptp(table[:, :2], axis=0).max()) + 4.0
        shapes = [*_road(table, float(env.tracks.half_width[track])), *self._driven_line(world)]
        shapes += self._car(world)
        return Scene(
            shapes=shapes,
            center=(float(middle[0]), float(middle[1])),
            span_m=span_m,
            caption=self._caption(world),
            accent=accent(env, world, tally=env.tally, was_good=env.last_was_lap, shown_s=_ACCENT_S),
        )

    def _driven_line(self, world: int) -> list[Shape]:
        """Return the line of this episode, red where the car is slow and green where it is fast."""
        env = self._env
        state = env.state
        steps = int(env.episode_steps[world])
        line = self._trails.add(world, steps=steps, x=state.x, y=state.y, speed=state.forward)
        return speed_line(line, fastest_m_per_s=_FASTEST_M_PER_S, width_m=0.12)

    def _car(self, world: int) -> list[Shape]:
        """Return the points that the car sees ahead, and the car with its front wheels."""
        env = self._env
        state = env.state
        yaw = float(state.yaw[world])
        here = np.array([float(state.x[world]), float(state.y[world])])
        along = env.place.along[world : world + 1, None] + env.preview_m
        points = env.tracks.points(env.track[world : world + 1], along)[0].numpy(force=True)
        ahead = np.array([np.cos(yaw), np.sin(yaw)])
        left = np.array([-ahead[1], ahead[0]])
        shapes: list[Shape] = [Circle(center=point, radius_m=0.12, fill=PREVIEW) for point in points]
        # Drawn half as large again as it is, as it would be but a few pixels.
        length_m = 1.5 * env.body.length_m
        width_m = 1.5 * env.body.width_m
        wheel_yaw = yaw + float(state.steering[world])
        for side in (-0.5, 0.5):
            wheel = here + 0.3 * length_m * ahead + side * width_m * left
            shapes.append(Polygon(points=rectangle(wheel, wheel_yaw, 0.3, 0.12), fill=GLASS))
        shapes.append(Polygon(points=rectangle(here, yaw, length_m, width_m), fill=CAR))
        shapes.append(Polygon(points=rectangle(here, yaw, 0.35 * length_m, 0.8 * width_m), fill=GLASS))
        return shapes

    def _caption(self, world: int) -> str:
        env = self._env
        steering, acceleration = env.actions[world, :2].tolist()
        friction, _, _, _, latency_s = env.drawn[world].tolist()
        laps, failures = env.tally[world].tolist()
        speed = float(env.state.forward[world])
        last = ""
        if laps:
            last = f"   last lap {float(env.last_lap_s[world]):.2f} s"
        return (
            f"{speed:.1f} m/s   steering {steering:+.2f}   throttle {acceleration:+.2f}\n"
            f"friction {friction:.2f}   latency {1e3 * latency_s:.0f} ms\n"
            f"laps {laps:.0f}   off {failures:.0f}{last}"
        )


def _road(table: np.ndarray, half_width_m: float) -> list[Shape]:
    """Return the surface of a track, its edges and its centre line."""
    points = np.concatenate([table, table[:1]])
    centre = points[:, :2]
    normal = np.stack([-points[:, 3], points[:, 2]], 1)
    left = centre + half_width_m * normal
    right = centre - half_width_m * normal
    # A ring as one polygon: along one edge, and back along the other.
    return [
        Polygon(points=np.concatenate([left, right[::-1]]), fill=ASPHALT),
        Line(points=left, color=EDGE, width_m=0.1),
        Line(points=right, color=EDGE, width_m=0.1),
        Line(points=centre, color=CENTRE, width_m=0.05),
    ]
