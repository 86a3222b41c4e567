"""Videos of recorded motion, drawn by one of two back ends.

A renderer takes a MuJoCo model and recorded positions, nothing of the simulation that made them. `opengl` is
MuJoCo's own renderer, used where an offscreen OpenGL context works; `raycast` needs only MuJoCo's rays.
"""

from __future__ import annotations

BACKENDS = ("auto", "opengl", "raycast")


class RenderingUnavailableError(RuntimeError):
    """An environment cannot be drawn here; the message says why in one line."""
