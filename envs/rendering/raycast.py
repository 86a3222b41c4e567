"""A renderer without OpenGL: it casts rays with the physics engine and shades the surfaces they hit.

Every pixel gets one ray and, where it faces the sun, one more towards it. Pixels on an edge (of a geom, a
bend or a shadow) get three of each, and the shadow rays are spread over the sun. So silhouettes and shadows
are smooth for a fraction of the cost of sampling every pixel three times.
Shapes: P rays of one frame, H and W the picture's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple

import mujoco
import numpy as np
from mjbatch import Batch

from factory.envs.rendering.camera import Camera, Recording, View
from factory.envs.rendering.renderer import Renderer
from factory.envs.rendering.sky import (
    GROUND_LIGHT,
    HORIZON,
    SKY_LIGHT,
    SUBPIXELS,
    SUN,
    key_light,
    sky_color,
    sun_disc,
)
from factory.envs.rendering.surface import FLAT, GAMMA, Surfaces
from factory.runtime.cpus import usable_cpus

_VISIBLE = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)
"""Geom groups that are drawn: MuJoCo's viewer also shows 0 to 2 and hides the collision geoms in 3."""
_FOG_IN_FOCUS_LENGTHS = 12.0
"""Distance at which haze hides 63 % of a surface, in distances to the subject."""
_BEND_COSINE = 0.8
"""Cosine of the angle between neighbouring normals (37 degrees) from which on a bend counts as an edge."""


class RaycastRenderer(Renderer):
    """Draws frames on a pool of threads, one frame a thread."""

    name = "raycast"

    def __init__(self, model: mujoco.MjModel, *, width: int, height: int) -> None:
        """Prepare surfaces and one scene per processor."""
        self._model = model
        self._width = width
        self._height = height
        self._surfaces = Surfaces(model)
        num_threads = len(usable_cpus())
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="raycast")
        self._scenes: SimpleQueue[_Scene] = SimpleQueue()
        for _ in range(num_threads):
            self._scenes.put(_Scene(model))

    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the picture of every row of positions; see `Renderer`."""
        views = camera.views(self._model, recording)
        if not views:
            return
        # One sun for the whole video, even if the camera turns.
        sun = key_light(views[0])
        # A window of frames: enough to keep all threads busy, few enough for the memory of a long video.
        pending: deque[Future[np.ndarray]] = deque()
        for row, view in zip(recording, views, strict=True):
            pending.append(self._pool.submit(self._picture, row, view, sun))
            if len(pending) > 2 * self._num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _picture(self, qpos: np.ndarray, view: View, sun: np.ndarray) -> np.ndarray:
        scene = self._scenes.get()
        try:
            scene.pose(qpos)
            shot = _Shot(scene, self._surfaces, view, sun, (self._height, self._width))
            rows, columns = (
                axis.ravel().astype(np.float32) for axis in np.indices((self._height, self._width))
            )
            samples = [(*offset, towards) for offset, towards in zip(SUBPIXELS, sun_disc(sun), strict=True)]
            down, across, towards = samples[0]
            picture, hit = shot.colors(rows + down, columns + across, towards)

            # Pixels on edges become the mean of three samples.
            edge = np.flatnonzero(_edges(hit, self._height, self._width))
            if edge.size:
                for down, across, towards in samples[1:]:
                    picture[edge] += shot.colors(rows[edge] + down, columns[edge] + across, towards)[0]
                picture[edge] /= len(samples)
        finally:
            self._scenes.put(scene)
        # From linear light to display values, rounded.
        display = 255.0 * picture ** np.float32(1.0 / GAMMA) + 0.5
        return display.astype(np.uint8).reshape(self._height, self._width, 3)


class _Hit(NamedTuple):
    """Hits of P rays: geom id (-1 is the sky), unit normal towards the viewer, and whether it is sunlit."""

    geom: np.ndarray
    normal: np.ndarray
    lit: np.ndarray


class _Scene:
    """One posed copy of the model that one thread casts rays at."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self._batch = Batch(model, 1, num_threads=1)
        self._qpos = self._batch.bind("qpos")
        # Planes shade nothing below the horizon; a height field may shade points anywhere.
        visible = model.geom_group < 3
        self._casters = np.flatnonzero(visible & ~np.isin(model.geom_type, FLAT))
        self._shadows_anywhere = bool((visible & (model.geom_type == FLAT[1])).any())

    def pose(self, qpos: np.ndarray) -> None:
        """Move every geom to where `qpos` `(nq,)` puts it."""
        self._qpos[0] = qpos
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)

    def cast(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return distance `(P,)`, geom `(P,)` and normal `(P, 3)` of the first hit of rays `(P, 3)`."""
        # The engine takes a batch of worlds; this scene is the only one.
        count = len(direction)
        distance = np.empty((1, count), np.float32)
        geom = np.empty((1, count), np.int32)
        normal = np.empty((1, count, 3), np.float32)
        if count:
            self._batch.rays(origin[None], direction[None], distance, geom, normal, geomgroup=_VISIBLE)
        return distance[0], geom[0], normal[0]

    def sunlit(self, point: np.ndarray, sun: np.ndarray) -> np.ndarray:
        """Return which points `(P, 3)` have nothing between them and the sun."""
        # Rays cost most of the time, so points far from all casters are lit without one.
        lit = np.ones(len(point), dtype=bool)
        asked = np.flatnonzero(self._may_be_shaded(point, sun))
        if asked.size:
            towards = np.broadcast_to(sun, (asked.size, 3))
            lit[asked] = self.cast(point[asked], np.ascontiguousarray(towards))[1] < 0
        return lit

    def _may_be_shaded(self, point: np.ndarray, sun: np.ndarray) -> np.ndarray:
        """Return which points lie in the cylinder that the casters' bounding sphere sweeps out."""
        if self._shadows_anywhere or not self._casters.size:
            return np.full(len(point), self._shadows_anywhere)
        # A sphere about the middle of the casters' bounding box holds all of them.
        centers = self.data.geom_xpos[self._casters]
        radii = self.model.geom_rbound[self._casters]
        low = (centers - radii[:, None]).min(axis=0)
        high = (centers + radii[:, None]).max(axis=0)
        middle = 0.5 * (low + high)
        radius = float((np.linalg.norm(centers - middle, axis=1) + radii).max())

        # Squared distance from the axis through the middle along the sun: |o|^2 - (o . s)^2.
        offset = point - middle.astype(np.float32)
        return _dot(offset, offset) - _dot(offset, sun) ** 2 < radius**2


class _Shot:
    """One frame being drawn: a posed scene seen from a view."""

    def __init__(
        self, scene: _Scene, surfaces: Surfaces, view: View, sun: np.ndarray, size: tuple[int, int]
    ) -> None:
        self._scene = scene
        self._surfaces = surfaces
        self._sun = sun
        self._eye = view.eye.astype(np.float32)
        self._axes = view.axes.astype(np.float32)
        self._fog_m = np.float32(_FOG_IN_FOCUS_LENGTHS * view.focus_m)
        # Pinhole at distance 1: a pixel is 2 tan(fovy / 2) / height wide.
        self._middle = 0.5 * np.subtract(size, 1, dtype=np.float32)
        self._pixel = np.float32(2.0 * np.tan(np.radians(view.fovy_deg) / 2) / size[0])

    def colors(self, row: np.ndarray, column: np.ndarray, sun: np.ndarray) -> tuple[np.ndarray, _Hit]:
        """Return linear colours `(P, 3)` in [0, 1] of points of the picture, and the hits there."""
        right, up, back = self._axes.T
        down = (row - self._middle[0]) * self._pixel
        across = (column - self._middle[1]) * self._pixel
        direction = across[:, None] * right - down[:, None] * up - back
        direction /= np.sqrt(_dot(direction, direction))[:, None]
        origin = np.ascontiguousarray(np.broadcast_to(self._eye, direction.shape))
        color, hit = self._look(origin, direction, sun, layers=3)
        # Bright light rolls off instead of clipping; darker tones stay as they are.
        return np.where(color > 0.6, 1.0 - 0.4 * np.exp((0.6 - color) / 0.4), color), hit

    def _look(
        self, origin: np.ndarray, direction: np.ndarray, sun: np.ndarray, *, layers: int
    ) -> tuple[np.ndarray, _Hit]:
        """Return the colour along rays, through at most `layers` translucent surfaces."""
        distance, geom, normal = self._scene.cast(origin, direction)
        color = sky_color(direction)
        met = np.flatnonzero(geom >= 0)
        # Normals face the viewer, also inside a translucent solid.
        normal *= -np.sign(_dot(normal, direction))[:, None]
        lit = np.zeros(len(geom), dtype=bool)
        point = origin[met] + distance[met, None] * direction[met]
        surface, lit[met] = self._shade(point, direction[met], distance[met], geom[met], normal[met], sun)
        haze = 1.0 - np.exp(-((distance[met] / self._fog_m) ** 2))
        surface += haze[:, None] * (HORIZON - surface)
        opacity = self._surfaces.opacity[geom[met]]
        clear = np.flatnonzero(opacity < 1.0)
        if layers > 1 and clear.size:
            # A solid is crossed twice, on the way in and out: each surface gets the root of the clarity.
            share = (1.0 - np.sqrt(1.0 - opacity[clear]))[:, None]
            beyond = point[clear] + 1e-4 * direction[met[clear]]
            behind, _ = self._look(beyond, direction[met[clear]], sun, layers=layers - 1)
            surface[clear] = share * surface[clear] + (1.0 - share) * behind
        color[met] = surface
        return color, _Hit(geom, normal, lit)

    def _shade(
        self,
        point: np.ndarray,
        direction: np.ndarray,
        distance: np.ndarray,
        geom: np.ndarray,
        normal: np.ndarray,
        sun: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return reflected light `(P, 3)` and what is sunlit: Lambert, Blinn-Phong, two-tone ambient."""
        facing = _dot(normal, self._sun)
        towards = np.flatnonzero(facing > 0)
        lit = np.zeros(len(geom), dtype=bool)
        # Shadow rays begin a millimetre above the surface, or rounding would let it shade itself.
        lit[towards] = self._scene.sunlit(point[towards] + 1e-3 * normal[towards], sun)
        # Diffuse: the sun by Lambert's cosine, sky and ground by how far the surface faces up.
        strength = np.where(lit, facing, 0.0)[:, None]
        upward = 0.5 + 0.5 * normal[:, 2:]
        light = strength * SUN + upward * SKY_LIGHT + (1.0 - upward) * GROUND_LIGHT
        light += self._surfaces.glow[geom, None]
        color = self._albedo(point, direction, distance, geom) * light
        # Specular: gloss * cos(normal, half)^exponent, with half between the sun and the viewer (Blinn 1977).
        shiny = np.flatnonzero(lit & (self._surfaces.gloss[geom] > 0))
        half = self._sun - direction[shiny]
        cosine = np.maximum(_dot(normal[shiny], half), 0.0) / np.sqrt(_dot(half, half))
        highlight = 0.25 * self._surfaces.gloss[geom[shiny]] * cosine ** self._surfaces.exponent[geom[shiny]]
        color[shiny] += highlight[:, None] * SUN
        return color, lit

    def _albedo(
        self, point: np.ndarray, direction: np.ndarray, distance: np.ndarray, geom: np.ndarray
    ) -> np.ndarray:
        """Return the surface colour `(P, 3)`, patterned on planes and height fields."""
        color = self._surfaces.color[geom]
        for flat, pattern in self._surfaces.patterns.items():
            on = np.flatnonzero(geom == flat)
            if not on.size:
                continue
            # Coordinates in the geom's own plane, along the first two columns of its rotation.
            position = self._scene.data.geom_xpos[flat]
            axes = self._scene.data.geom_xmat[flat].reshape(3, 3).astype(np.float32)
            x, y = (_dot(point[on], axis) - np.float32(position @ axis) for axis in axes.T[:2])
            dx, dy = self._footprint(direction[on], distance[on], axes)
            color[on] *= pattern.color(x, y, dx, dy)
        return color

    def _footprint(
        self, direction: np.ndarray, distance: np.ndarray, axes: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Return the width and height `(P,)` [m] that a pixel covers on a plane, along the first two `axes`.

        A step s of the ray's end across the picture moves its foot on the plane by s - d s_z / d_z.
        """
        x, y, z = (_dot(direction, axis) for axis in axes.T)
        reach = distance * _dot(direction, -self._axes[:, 2]) * self._pixel
        # Bounded, since a ray along the plane would meet it at infinity.
        slope = reach / np.copysign(np.maximum(np.abs(z), 1e-3), z)
        right = axes.T @ self._axes[:, 0]
        up = axes.T @ self._axes[:, 1]
        return tuple(
            np.abs(right[k] * reach - right[2] * slope * d) + np.abs(up[k] * reach - up[2] * slope * d)
            for k, d in ((0, x), (1, y))
        )


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the dot products `(P,)` of `a` `(P, 3)` with `b`, `(P, 3)` or `(3,)`.

    Not a matrix product: BLAS would start threads of its own in every thread of the pool.
    """
    if b.ndim == 2:
        return np.einsum("ij,ij->i", a, b)
    return np.einsum("ij,j->i", a, b)


def _edges(hit: _Hit, height: int, width: int) -> np.ndarray:
    """Return which pixels `(H, W)` border on another geom, a bend or a shadow."""
    geom = hit.geom.reshape(height, width)
    lit = hit.lit.reshape(height, width)
    normal = hit.normal.reshape(height, width, 3)
    edge = np.zeros((height, width), dtype=bool)
    # Neighbours above each other, then neighbours side by side.
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        bend = np.einsum("hwc,hwc->hw", normal[one], normal[other]) < _BEND_COSINE
        change = (geom[one] != geom[other]) | (lit[one] != lit[other]) | (bend & (geom[one] >= 0))
        edge[one] |= change
        edge[other] |= change
    return edge
