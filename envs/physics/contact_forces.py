"""Contact forces on bodies (`cfrc_ext`) after every physics step, from MuJoCo's own routine.

`mj_step` leaves `cfrc_ext` alone unless a sensor asks for it, and then gives it for the start of the step, which is
not where the RK4 integrator leaves the other derived fields. MuJoCo calls a plugin's `advance` at the very end of a
step; here that is `mj_rnePostConstraint` itself, so the field is what a call by hand after `mj_step` would give.
"""

from __future__ import annotations

import ctypes
import functools

import mujoco

_NAME = "factory.contact_forces"
_CALLBACKS = (
    "nstate", "nsensordata", "init", "destroy", "copy", "reset", "compute", "advance", "visualize",
    "actuator_act_dot", "sdf_distance", "sdf_gradient", "sdf_staticdistance", "sdf_attribute", "sdf_aabb",
)  # fmt: skip


class _Plugin(ctypes.Structure):
    """`mjpPlugin` in `mjplugin.h` of MuJoCo 3.14."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("nattribute", ctypes.c_int),
        ("attributes", ctypes.c_void_p),
        ("capabilityflags", ctypes.c_int),
        ("needstage", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in _CALLBACKS),
    ]


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
def _no_state(model: int | None, instance: int) -> int:
    """Return how many numbers of state the plugin keeps; MuJoCo asks when it compiles a model."""
    return 0


def add_contact_forces(spec: mujoco.MjSpec) -> None:
    """Let models made from `spec` bring `cfrc_ext` up to date in every step; `mj_forward` still does not."""
    _register()
    spec.activate_plugin(_NAME)
    spec.add_plugin(name=_NAME, plugin_name=_NAME)


@functools.cache
def _register() -> None:
    """Make the plugin known to the MuJoCo library of this process."""
    library = ctypes.CDLL(mujoco._functions.__file__)  # finds the symbols of the library that mujoco itself loaded
    plugin = _Plugin()
    library.mjp_defaultPlugin(ctypes.byref(plugin))
    plugin.name = _NAME.encode()
    plugin.nstate = ctypes.cast(_no_state, ctypes.c_void_p).value
    plugin.advance = ctypes.cast(library.mj_rnePostConstraint, ctypes.c_void_p).value
    library.mjp_registerPlugin(ctypes.byref(plugin))
