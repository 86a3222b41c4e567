"""MuJoCo's own renderer, on an offscreen OpenGL platform that draws on this machine."""

from __future__ import annotations

import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import mujoco
import numpy as np

from factory.envs.rendering import RenderingUnavailableError
from factory.envs.rendering.camera import Camera, Recording
from factory.envs.rendering.opengl_process import COUNT, READY, Hello, pack_views
from factory.envs.rendering.renderer import Renderer

# Values of MUJOCO_GL: MuJoCo's platforms, and its words for none.
PLATFORMS = ("egl", "osmesa", "glfw", "cgl")
_OFF = ("disable", "disabled", "off", "false", "0")
_TIMEOUT_S = 60.0
"""Longest wait for the context or for one frame; a driver that hangs is given up."""


class OpenGLRenderer(Renderer):
    """Renderer in a process of its own, so that a driver's crash costs the video and nothing else."""

    def __init__(self, model: mujoco.MjModel, *, width: int, height: int, platform: str) -> None:
        """Start the process, open a context of `platform` in it and send it the model.

        Raises:
            RenderingUnavailableError: the process does not draw; the message ends with the reason it gave.
        """
        self.name = f"opengl:{platform}"
        self._model = model
        self._shape = (height, width, 3)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        self._process = self._started()
        hello = Hello(platform, width, height)
        model_bytes = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
        mujoco.mj_saveModel(model, None, model_bytes)
        self._send(json.dumps(hello).encode(), model_bytes.tobytes())
        self._receive(len(READY))

    def frames(self, recording: Recording, *, camera: Camera) -> Iterator[np.ndarray]:
        """Yield the picture of every row of positions; see `Renderer`.

        Raises:
            RenderingUnavailableError: the process ended or hung before the last frame.
        """
        positions = np.ascontiguousarray(recording, dtype=np.float64)
        views = pack_views(camera.views(self._model, positions))
        self._send(positions.tobytes(), views.tobytes(), num_frames=len(positions))
        num_bytes = int(np.prod(self._shape))
        for _ in range(len(positions)):
            yield np.frombuffer(self._receive(num_bytes), dtype=np.uint8).reshape(self._shape)

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _started(self) -> subprocess.Popen[bytes]:
        # The process names its platform itself; at import mujoco would open the one of MUJOCO_GL.
        environment = {
            **os.environ,
            "MUJOCO_GL": "off",
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
        }
        environment.pop("PYOPENGL_PLATFORM", None)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "factory.envs.rendering.opengl_process"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                # Ctrl-C is for the run, which decides what to finish.
                start_new_session=True,
            )
        except OSError as error:
            raise RenderingUnavailableError(f"{self.name}: cannot start a process: {error}") from error

    def _send(self, *blocks: bytes, num_frames: int | None = None) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            if num_frames is not None:
                stdin.write(COUNT.pack(num_frames))
            for block in blocks:
                stdin.write(COUNT.pack(len(block)))
                remaining = memoryview(block)
                # An unbuffered pipe takes as many bytes as fit.
                while remaining:
                    remaining = remaining[stdin.write(remaining) :]
        except OSError:
            raise self._failure() from None

    def _receive(self, num_bytes: int) -> bytearray:
        stdout = self._process.stdout
        assert stdout is not None
        received = bytearray(num_bytes)
        view = memoryview(received)
        deadline_s = time.monotonic() + _TIMEOUT_S
        while view:
            # No bytes after the deadline mean that it hangs, and no bytes before it that the pipe is closed.
            left_s = max(0.0, deadline_s - time.monotonic())
            ready, _, _ = select.select([stdout], [], [], left_s)
            count = 0
            if ready:
                count = stdout.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise self._failure()
            view = view[count:]
        return received

    def _failure(self) -> RenderingUnavailableError:
        """Return the error of a process that ended, closed its pipe or hangs; end it."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            reason = f"no answer within {_TIMEOUT_S:.0f} s"
            self._process.kill()
        else:
            reason = f"exit status {status}"
            if status < 0:
                reason = f"signal {-status}"
        message = f"{self.name} stopped with {reason}"
        # The last line of a traceback, or of a driver's messages, names the cause.
        self._errors.seek(0)
        last_line = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        if last_line:
            message += f": {last_line[:200]}"
        return RenderingUnavailableError(message)


def working_platform() -> str | None:
    """Return the OpenGL platform that draws here, or None; `MUJOCO_GL` goes first, or switches all off."""
    return _first_working(chosen_platform())


def chosen_platform() -> str:
    """Return the value of `MUJOCO_GL` in lower case; empty if it is not set."""
    return os.environ.get("MUJOCO_GL", "").lower().strip()


@functools.cache
def _first_working(setting: str) -> str | None:
    if setting in _OFF:
        return None
    candidates = ["egl", "osmesa"]
    if sys.platform == "darwin":
        candidates = ["cgl"]
    if setting in PLATFORMS:
        candidates.insert(0, setting)
    # Each trial starts a process, so a platform named twice is tried once.
    return next((platform for platform in dict.fromkeys(candidates) if _draws(platform)), None)


def _draws(platform: str) -> bool:
    """Return whether a picture of a red ball is red in its middle."""
    # Some drivers open a context and then draw nothing, so only a picture is a proof.
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><light pos='0 0 3'/><geom size='.5' rgba='1 0 0 1'/></worldbody></mujoco>"
    )
    try:
        renderer = OpenGLRenderer(model, width=64, height=48, platform=platform)
    except RenderingUnavailableError:
        return False
    try:
        picture = renderer.render(np.zeros((1, 0)), camera=Camera(distance_m=2.0))[0]
    except RenderingUnavailableError:
        return False
    finally:
        renderer.close()
    red, green, _ = picture[24, 32].astype(int)
    return bool(red > 100 and red > 1.5 * green)
