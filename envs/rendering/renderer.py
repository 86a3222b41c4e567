"""Renderers, and the choice between the two back ends."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

import mujoco
import numpy as np

from factory.envs.rendering import BACKENDS
from factory.envs.rendering.camera import Camera, Recording

_log = logging.getLogger(__name__)


class Renderer(ABC):
    """Draws what was recorded."""

    name: str
    """`opengl:egl`, `opengl:osmesa`, ..., `raycast` or `rgb_array`."""

    @abstractmethod
    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the picture `(height, width, 3)` uint8 of every snapshot, in order.

        Few pictures are held at once, however long the film.
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


def open_renderer(model: mujoco.MjModel, *, width: int, height: int, backend: str = "auto") -> Renderer:
    """Return a renderer of `model`; `auto` takes OpenGL where it works and ray casting elsewhere.

    Raises:
        ValueError: the back end is unknown or the picture has no area.
        RuntimeError: `opengl` was asked for by name and no context works here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend}: choose one of {', '.join(BACKENDS)}")
    if width < 1 or height < 1:
        raise ValueError(f"width={width} height={height}: both must be at least 1 pixel")
    if backend != "raycast":
        from factory.envs.rendering.opengl import OpenGLRenderer, working_platform

        platform = working_platform()
        if platform:
            try:
                return OpenGLRenderer(model, width=width, height=height, platform=platform)
            except (ImportError, RuntimeError, mujoco.FatalError) as error:
                # The probe is another process: this one may already hold a context of another kind.
                if backend == "opengl":
                    raise RuntimeError(
                        f"backend=opengl: {platform} works, but not in this process: {error}"
                    ) from error
                _log.warning(
                    "OpenGL (%s) does not work in this process, casting rays instead: %s", platform, error
                )
        elif backend == "opengl":
            raise RuntimeError(
                "backend=opengl: no working context; install libegl1 or libosmesa6, or use raycast"
            )
    from factory.envs.rendering.raycast import RaycastRenderer

    return RaycastRenderer(model, width=width, height=height)
