"""Renderers, and the choice between the two back ends."""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

import mujoco
import numpy as np

from factory.envs.rendering import BACKENDS, RenderingUnavailableError
from factory.envs.rendering.camera import Camera, Recording

_log = logging.getLogger(__name__)


class Renderer(ABC):
    """Drawer of recordings."""

    name: str
    """`opengl:egl`, `opengl:osmesa`, ..., `raycast` or `rgb_array`."""

    @abstractmethod
    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the picture `(height, width, 3)` uint8 of every snapshot, in order.

        Few pictures are held at once, however long the video.
        """

    def render(self, recording: Recording, *, camera: Camera) -> np.ndarray:
        """Return all pictures at once, `(F, height, width, 3)` uint8."""
        return np.stack(list(self.frames(recording, camera=camera)))

    @abstractmethod
    def close(self) -> None:
        """Free threads, buffers and contexts; a second call does nothing."""


class PassthroughRenderer(Renderer):
    """Shows pictures that the environment drew itself when the snapshots were taken."""

    name = "rgb_array"

    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the pictures, cut by a pixel where a side is odd, which H.264 cannot code."""
        for picture in recording:
            height, width, _ = picture.shape
            yield picture[: height // 2 * 2, : width // 2 * 2]

    def close(self) -> None:
        """Hold nothing."""


class FallbackRenderer(Renderer):
    """Draws with the first renderer, and casts rays from the frame on at which that one stops."""

    def __init__(self, first: Renderer, model: mujoco.MjModel, *, width: int, height: int) -> None:
        """Keep what ray casting needs; it is opened only when needed."""
        self.name = first.name
        self._renderer = first
        self._model = model
        self._size = (width, height)

    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the picture of every row of positions; see `Renderer`."""
        num_drawn = 0
        try:
            for picture in self._renderer.frames(recording, camera=camera):
                yield picture
                num_drawn += 1
        except RenderingUnavailableError as error:
            _log.warning("%s; the remaining frames are drawn by ray casting", error)
            self.close()
            width, height = self._size
            self._renderer = _raycast(self._model, width=width, height=height)
            self.name = self._renderer.name
            # The whole recording gives the camera the same smoothed path; the frames already drawn are
            # skipped.
            remaining = self._renderer.frames(recording, camera=camera)
            yield from itertools.islice(remaining, num_drawn, None)

    def close(self) -> None:
        """Close the renderer in use."""
        self._renderer.close()


def open_renderer(model: mujoco.MjModel, *, width: int, height: int, backend: str = "auto") -> Renderer:
    """Return a renderer of `model`; `auto` takes OpenGL where it works and ray casting elsewhere.

    Raises:
        ValueError: the back end is unknown or the picture has no area.
        RenderingUnavailableError: `opengl` was asked for by name and no context works here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend}: choose one of {', '.join(BACKENDS)}")
    if width < 1 or height < 1:
        raise ValueError(f"width={width} height={height}: both must be at least 1 pixel")
    if backend == "raycast":
        return _raycast(model, width=width, height=height)

    # Imported here: ray casting must work where OpenGL cannot even be loaded.
    from factory.envs.rendering import opengl

    platform = opengl.working_platform()
    chosen = opengl.chosen_platform()
    if chosen in opengl.PLATFORMS and platform != chosen:
        drawn_with = "ray casting"
        if platform:
            drawn_with = f"OpenGL ({platform})"
        _log.warning("MUJOCO_GL=%s does not draw on this machine; using %s", chosen, drawn_with)
    # A back end that was asked for by name is not replaced in silence.
    if platform is None and backend == "opengl":
        raise RenderingUnavailableError(
            "backend=opengl: no working context; install libegl1 or libosmesa6, or use raycast"
        )
    if platform is None:
        return _raycast(model, width=width, height=height)
    try:
        renderer = opengl.OpenGLRenderer(model, width=width, height=height, platform=platform)
    except RenderingUnavailableError as error:
        if backend == "opengl":
            raise
        _log.warning("%s; casting rays instead", error)
        return _raycast(model, width=width, height=height)
    if backend == "opengl":
        return renderer
    return FallbackRenderer(renderer, model, width=width, height=height)


def _raycast(model: mujoco.MjModel, *, width: int, height: int) -> Renderer:
    from factory.envs.rendering.raycast import RaycastRenderer

    return RaycastRenderer(model, width=width, height=height)
