"""MuJoCo's own renderer, on whichever offscreen OpenGL platform really draws on this machine."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator

import mujoco
import numpy as np

from factory.envs.rendering.camera import Camera, Recording, View
from factory.envs.rendering.renderer import Renderer

_OFF = ("disable", "disabled", "off", "false", "0")
_PLATFORMS = ("egl", "osmesa", "glfw", "cgl")
_PROBE_TIMEOUT_S = 60.0


class OpenGLRenderer(Renderer):
    """Draws with `mjr_render` into an offscreen context of its own.

    `mujoco.Renderer` is not used: its platform is fixed by `MUJOCO_GL` when mujoco is first imported, and it
    refuses pictures larger than the model's `offwidth`.
    """

    def __init__(self, model: mujoco.MjModel, *, width: int, height: int, platform: str) -> None:
        """Open a context of `platform` (`egl`, `osmesa`, `glfw`, `cgl`) and upload the model to it."""
        self.name = f"opengl:{platform}"
        self._model = model
        self._data = mujoco.MjData(model)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._option = mujoco.MjvOption()
        self._gl = importlib.import_module(f"mujoco.{platform}").GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self._context.shadowClip *= (
            4.0  # at the border of its area the shadow map speckles: keep it out of the picture
        )
        mujoco.mjr_resizeOffscreen(width, height, self._context)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the picture of every row of positions; see `Renderer`."""
        for row, view in zip(recording, camera.views(self._model, recording), strict=True):
            yield self._draw(row, view)

    def close(self) -> None:
        """Free the context."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def _draw(self, qpos: np.ndarray, view: View) -> np.ndarray:
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
            eye.pos[:], eye.forward[:], eye.up[:] = view.eye, -view.axes[:, 2], view.axes[:, 1]
            eye.frustum_top, eye.frustum_bottom = half_height, -half_height
        # The shadows of a directional light end some metres about the light: let it follow what is looked at.
        looked_at = view.eye - view.focus_m * view.axes[:, 2]
        for light in self._scene.lights[: self._scene.nlight]:
            if light.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL.value:
                light.pos[:] = looked_at - 4.0 * view.focus_m * light.dir
        self._gl.make_current()
        mujoco.mjr_render(self._rect, self._scene, self._context)
        picture = np.empty((self._rect.height, self._rect.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rect, self._context)
        return np.ascontiguousarray(picture[::-1])


def working_platform() -> str | None:
    """Return the OpenGL platform that draws here, or None; `MUJOCO_GL` goes first, or switches all off."""
    return _first_working(os.environ.get("MUJOCO_GL", "").lower().strip())


@functools.cache
def _first_working(setting: str) -> str | None:
    if setting in _OFF:
        return None
    defaults = ("cgl",) if sys.platform == "darwin" else ("egl", "osmesa")
    wanted = (setting,) if setting in _PLATFORMS else ()
    return next((platform for platform in dict.fromkeys((*wanted, *defaults)) if _draws(platform)), None)


def _draws(platform: str) -> bool:
    """Return whether a picture comes out, in a process of its own: a broken driver may abort or hang it."""
    # os._exit skips the interpreter's shutdown, where some drivers crash after the work is done.
    code = f"import os; from envs.rendering.opengl import draws_red; os._exit(not draws_red({platform!r}))"
    # mujoco opens no context of its own at import when MUJOCO_GL is off; the probe names the platform.
    environment = {
        **os.environ,
        "MUJOCO_GL": "off",
        "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
    }
    try:
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    return answer.returncode == 0


def draws_red(platform: str) -> bool:
    """Draw a red ball and return whether its middle came out red."""
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><light pos='0 0 3'/><geom size='.5' rgba='1 0 0 1'/></worldbody></mujoco>"
    )
    renderer = OpenGLRenderer(model, width=64, height=48, platform=platform)
    red, green, _ = renderer.render(np.zeros((1, 0)), camera=Camera(distance_m=2.0))[0, 24, 32].astype(int)
    renderer.close()
    return bool(red > 100 and red > 1.5 * green)


def _free_camera(view: View) -> mujoco.MjvCamera:
    forward = -view.axes[:, 2]
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = view.eye + view.focus_m * forward
    camera.distance = view.focus_m
    camera.azimuth = np.degrees(np.arctan2(forward[1], forward[0]))
    camera.elevation = np.degrees(np.arcsin(np.clip(forward[2], -1.0, 1.0)))
    return camera
