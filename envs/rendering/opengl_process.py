"""Draw with MuJoCo's own renderer in a process of its own; `OpenGLRenderer` starts it and reads the frames.

A driver may crash, hang or bring libraries that clash with others: Mesa's LLVM and that of triton, which
torch loads on Linux, kill a process that holds both. Here nothing but the picture is lost. This process
imports numpy and mujoco only.

Standard input carries a `Hello` and the model, then any number of recordings: a frame count, all positions
and all views. Standard output carries one byte when the context works, then the raw frames in order.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
from typing import BinaryIO, NamedTuple

import mujoco
import numpy as np

from factory.envs.rendering.camera import View

COUNT = struct.Struct("<q")
"""Number of bytes or frames that follow."""
READY = b"+"
"""Sent once the context is open."""
VIEW_SIZE = 14
"""Numbers of a packed view: eye 3, axes 9, field of view, focus."""


class Hello(NamedTuple):
    """Size and platform of the pictures, sent first as a JSON list."""

    platform: str
    width: int
    height: int


def pack_views(views: list[View]) -> np.ndarray:
    """Return views as rows `(F, VIEW_SIZE)` float64."""
    rows = [[*view.eye, *view.axes.ravel(), view.fovy_deg, view.focus_m] for view in views]
    return np.array(rows, dtype=np.float64).reshape(-1, VIEW_SIZE)


def unpack_view(row: np.ndarray) -> View:
    """Return the view in one row of `pack_views`."""
    return View(row[:3], row[3:12].reshape(3, 3), float(row[12]), float(row[13]))


class Drawer:
    """Draws with `mjr_render` into an offscreen context of its own.

    `mujoco.Renderer` is not used: its platform is fixed by `MUJOCO_GL` when mujoco is first imported, and it
    refuses pictures larger than the model's `offwidth`.
    """

    def __init__(self, model: mujoco.MjModel, hello: Hello) -> None:
        """Open a context of the platform (`egl`, `osmesa`, `glfw`, `cgl`) and upload the model to it."""
        self._model = model
        self._data = mujoco.MjData(model)
        self._rect = mujoco.MjrRect(0, 0, hello.width, hello.height)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._option = mujoco.MjvOption()
        self._gl = importlib.import_module(f"mujoco.{hello.platform}").GLContext(hello.width, hello.height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        # At the border of its area the shadow map speckles: keep the border out of the picture.
        self._context.shadowClip *= 4.0
        mujoco.mjr_resizeOffscreen(hello.width, hello.height, self._context)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def draw(self, qpos: np.ndarray, view: View) -> np.ndarray:
        """Return the picture `(height, width, 3)` uint8 of positions `(nq,)`."""
        self._data.qpos[:] = qpos
        mujoco.mj_fwdPosition(self._model, self._data)
        # The scene is built with the free camera nearest to the view (infinite planes and haze depend on it),
        # and its two eyes are then set exactly, so that roll and field of view are the view's too.
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            None,
            _free_camera(view),
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        for eye in self._scene.camera:
            half_height = eye.frustum_near * np.tan(np.radians(view.fovy_deg) / 2)
            eye.pos[:] = view.eye
            eye.forward[:] = -view.axes[:, 2]
            eye.up[:] = view.axes[:, 1]
            eye.frustum_top = half_height
            eye.frustum_bottom = -half_height
        # A directional light casts shadows only within some metres of itself: move it with the point in
        # focus.
        looked_at = view.eye - view.focus_m * view.axes[:, 2]
        for light in self._scene.lights[: self._scene.nlight]:
            if light.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL.value:
                light.pos[:] = looked_at - 4.0 * view.focus_m * light.dir
        mujoco.mjr_render(self._rect, self._scene, self._context)
        picture = np.empty((self._rect.height, self._rect.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rect, self._context)
        # OpenGL's first row is the bottom one.
        return np.ascontiguousarray(picture[::-1])


def serve(requests: BinaryIO, pictures: BinaryIO) -> None:
    """Open the context, then draw recording after recording until `requests` ends."""
    hello = Hello(*json.loads(_read_block(requests)))
    assets = {"model.mjb": _read_block(requests)}
    drawer = Drawer(mujoco.MjModel.from_binary_path("model.mjb", assets), hello)
    pictures.write(READY)
    pictures.flush()

    # The whole recording is read before the first frame is written, so neither side ever waits for the other.
    while count := requests.read(COUNT.size):
        num_frames = COUNT.unpack(count)[0]
        positions = np.frombuffer(_read_block(requests), dtype=np.float64).reshape(num_frames, -1)
        views = np.frombuffer(_read_block(requests), dtype=np.float64).reshape(num_frames, VIEW_SIZE)
        for qpos, view in zip(positions, views, strict=True):
            pictures.write(drawer.draw(qpos, unpack_view(view)).data)
        pictures.flush()


def _read_block(stream: BinaryIO) -> bytes:
    size = COUNT.unpack(stream.read(COUNT.size))[0]
    return stream.read(size)


def _free_camera(view: View) -> mujoco.MjvCamera:
    """Return the free camera with the view's eye and line of sight; it has no roll."""
    forward = -view.axes[:, 2]
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = view.eye + view.focus_m * forward
    camera.distance = view.focus_m
    camera.azimuth = np.degrees(np.arctan2(forward[1], forward[0]))
    camera.elevation = np.degrees(np.arcsin(np.clip(forward[2], -1.0, 1.0)))
    return camera


def main() -> None:
    """Serve on standard input and output; whatever a driver prints goes to standard error."""
    pictures = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    status = 0
    try:
        serve(sys.stdin.buffer, pictures)
    except BrokenPipeError:
        pass  # the reader has closed the renderer
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        status = 1
    # Skip the interpreter's shutdown, where some drivers crash after the work is done.
    os._exit(status)


if __name__ == "__main__":
    main()
