"""Delay the OpenGL library that `MUJOCO_GL` names until a context is asked for.

`import mujoco` loads that library at once. If it is missing, or if mujoco does not know the name, every
command ends there, although only videos need it. If it is OSMesa, its LLVM and the one of triton, which torch
loads on Linux, crash the process that holds both.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

_MODULE = "mujoco.rendering.classic.gl_context"
_OFF = ("disable", "disabled", "off", "false", "0")
_ON = ("", "enable", "enabled", "on", "true", "1")
_LOADED_LATE = (*_OFF, *_ON, "glfw", "glx", "wgl", "cgl")
"""Values with which `import mujoco` neither loads a library that may be missing nor fails."""


class _DeferredModule(ModuleType):
    """Replacement for the module in which mujoco chooses its OpenGL platform."""

    def GLContext(self, width: int, height: int) -> Any:  # noqa: N802  mujoco's name
        """Return a context of the platform that `MUJOCO_GL` names now."""
        platform = os.environ.get("MUJOCO_GL", "").lower().strip()
        return importlib.import_module(f"mujoco.{platform or 'egl'}").GLContext(width, height)


def defer_opengl() -> None:
    """Let a later `import mujoco` load no OpenGL library.

    `mujoco.Renderer` still works, and loads it then.
    """
    platform = os.environ.get("MUJOCO_GL", "").lower().strip()
    if platform in _LOADED_LATE or "mujoco" in sys.modules:
        return
    # Python finds this module in `sys.modules` and never runs mujoco's own file.
    module = _DeferredModule(_MODULE)
    # mujoco takes the module's names with a star import, which looks at `__dict__` only.
    module.__dict__["GLContext"] = module.GLContext
    sys.modules[_MODULE] = module
