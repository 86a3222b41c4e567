"""Contact forces on bodies (`cfrc_ext`) at the end of control steps, from MuJoCo's own routine.

`mj_step` leaves `cfrc_ext` alone unless a sensor asks for it, and then gives it for the start of the step,
which is not where the RK4 integrator leaves the other derived fields. MuJoCo calls a plugin's `advance` at
the very end of a step; here that calls `mj_rnePostConstraint`, so the field is what a call by hand after
`mj_step` would give.
"""

from __future__ import annotations

import ctypes
import math
import threading

import llvmlite.binding as llvm
import mujoco

from factory.envs.physics.library import engine_library

_SOURCE = """
define void @advance(ptr %model, ptr %data, i32 %instance) {{
  %clock = alloca double
  %get_state = inttoptr i64 {mj_getState} to ptr
  call void %get_state(ptr %model, ptr %data, ptr %clock, i32 {time})
  %time_s = load double, ptr %clock
  %steps = fdiv double %time_s, {timestep_s:.17e}
  %nearest = fadd double %steps, 0.5
  %step = fptoui double %nearest to i64
  %rest = urem i64 %step, {every}
  %due = icmp eq i64 %rest, 0
  br i1 %due, label %last, label %end
last:
  %forces = inttoptr i64 {mj_rnePostConstraint} to ptr
  call void %forces(ptr %model, ptr %data)
  br label %end
end:
  ret void
}}

define i32 @nstate(ptr %model, i32 %instance) {{
  ret i32 0
}}
"""
"""The plugin's functions, compiled since the engine's threads call them and must not take Python's lock.

The number of a step follows from the world's time. `nstate` returns how many numbers of state a plugin keeps.
"""
_registration_lock = threading.Lock()
_ROUTINES = ("mj_getState", "mj_rnePostConstraint")
_CALLBACKS = (
    "nstate",
    "nsensordata",
    "init",
    "destroy",
    "copy",
    "reset",
    "compute",
    "advance",
    "visualize",
    "actuator_act_dot",
    "sdf_distance",
    "sdf_gradient",
    "sdf_staticdistance",
    "sdf_attribute",
    "sdf_aabb",
)


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


def add_contact_forces(spec: mujoco.MjSpec, *, every: int) -> None:
    """Let models made from `spec` bring `cfrc_ext` up to date in every `every`-th step since a reset.

    In between it holds anything, and `mj_forward` leaves it alone. Such a model can be stepped in this
    process only: others do not know the plugin.

    Raises:
        ValueError: the time step is not a positive number.
    """
    timestep_s = spec.option.timestep
    if not 0.0 < timestep_s < math.inf:
        raise ValueError(f"timestep={timestep_s}: must be positive")
    # The constants are part of the compiled code, so each pair of them is a plugin of its own.
    name = f"factory.contact_forces.{every}.{timestep_s}"
    _register(name, every, timestep_s)
    spec.activate_plugin(name)
    spec.add_plugin(name=name, plugin_name=name)


def _register(name: str, every: int, timestep_s: float) -> None:
    """Register the plugin with the MuJoCo library of this process, once: twice aborts the process."""
    library = engine_library()
    library.mjp_getPlugin.restype = ctypes.c_void_p
    # MuJoCo keeps plugins for the life of the process, under their names.
    with _registration_lock:
        if library.mjp_getPlugin(name.encode(), None):
            return
        code = _compile(library, every, timestep_s)
        plugin = _Plugin()
        library.mjp_defaultPlugin(ctypes.byref(plugin))
        plugin.name = name.encode()
        plugin.nstate, plugin.advance = map(code.get_function_address, ("nstate", "advance"))
        library.mjp_registerPlugin(ctypes.byref(plugin))
        # MuJoCo calls it until the process ends, so Python must not free it.
        code.detach()


def _compile(library: ctypes.CDLL, every: int, timestep_s: float) -> llvm.ExecutionEngine:
    """Compile the plugin's functions to machine code."""
    # The code calls MuJoCo by address, since the library is loaded already and its symbols may be hidden.
    address = {name: ctypes.cast(library[name], ctypes.c_void_p).value for name in _ROUTINES}
    time = int(mujoco.mjtState.mjSTATE_TIME)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    source = llvm.parse_assembly(_SOURCE.format(time=time, every=every, timestep_s=timestep_s, **address))
    engine = llvm.create_mcjit_compiler(source, llvm.Target.from_default_triple().create_target_machine())
    engine.finalize_object()
    return engine
