"""MuJoCo Warp (`mujoco_warp`) behind torch views: all worlds in one launch, on a GPU, or on a CPU for tests.

Everything is float32. `Recorder` says how calls reach the device, and what a capture by torch needs; beside
that, every field and model field must have been asked for before a capture.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp
from torch import Tensor

from factory.envs.physics.buffers import Buffers, probe
from factory.envs.physics.recording import Clock, Recorder, patience

_STATE_FIELDS = (
    "time",
    "qpos",
    "qvel",
    "act",
    "history",
    "qacc_warmstart",
    "ctrl",
    "qfrc_applied",
    "xfrc_applied",
    "eq_active",
    "mocap_pos",
    "mocap_quat",
    "userdata",
)
"""All that a step starts from."""
_KINEMATIC_FIELDS = {
    "xpos",
    "xquat",
    "xmat",
    "xipos",
    "ximat",
    "xanchor",
    "xaxis",
    "geom_xpos",
    "geom_xmat",
    "site_xpos",
    "site_xmat",
    "cam_xpos",
    "cam_xmat",
    "light_xpos",
    "light_xdir",
    "subtree_com",
    "cdof",
    "cinert",
    "ten_length",
    "ten_J",
}
"""Derived fields that need no more than kinematics."""
_FORCE_FIELDS = {"cacc", "cfrc_int", "cfrc_ext"}
"""Fields that MuJoCo fills in only when asked, with `mj_rnePostConstraint` after a step."""
_OVERFLOWS = {
    "njmax": (mjw.OverflowType.NEFC | mjw.OverflowType.NJMAX_NNZ, "constraint rows"),
    "nconmax": (
        mjw.OverflowType.BROADPHASE | mjw.OverflowType.NARROWPHASE | mjw.OverflowType.CCD,
        "contacts",
    ),
}
"""Setting -> overflow bits that show it was too small, and the name of its contents."""


class WarpPhysics:
    """GPU engine. See `factory.envs.physics.base.Physics` for the contract of every method.

    Model fields that MuJoCo derives others from when it compiles a model (`body_mass` and the rest) are read
    as they are, as with the CPU engine. Geoms of the world body stay where they were at the start.
    """

    def __init__(
        self, model: mujoco.MjModel, *, num_envs: int, device: torch.device, nconmax: int = 0, njmax: int = 0
    ) -> None:
        self.model = model
        self.num_envs = num_envs
        self.device = device
        self._recorder = Recorder(device)
        self._warnings: list[str] = []
        self._reported: set[str] = set()
        solvable = self._solvable(model)
        with self._filling():
            self._m = _put(solvable)
        if nconmax and njmax:
            found = Buffers(nconmax, njmax)
        else:
            found = probe(model)
        self._room = {"nconmax": nconmax or found.nconmax, "njmax": njmax or found.njmax}
        with self._filling():
            self._d = mjw.make_data(solvable, nworld=num_envs, **self._room)
        self._fields: dict[str, Tensor] = {}
        self._model_fields: dict[str, Tensor] = {}
        arrays = {name: getattr(self._d, name) for name in _STATE_FIELDS}
        self._state = {name: self._view(array) for name, array in arrays.items() if array.size}
        self._defaults = {name: value.clone() for name, value in self._state.items()}
        with patience():
            self.step(1)
            self.forward()
        # The steps above compiled the kernels; their effect on the state is undone.
        self.set_state({f"state/{name}": value for name, value in self._defaults.items()})
        # Compilation does not count.
        self._recorder.clock = Clock(device)
        self._overflow = self._view(self._d.overflow)
        self._overflow.zero_()

    @property
    def elapsed_s(self) -> float:
        """Time spent inside the engine since construction [s]; on a GPU that of the work it has finished."""
        return self._recorder.clock.read_s()

    def field(self, name: str, *, precise: bool = False) -> Tensor:
        """Return the live view of an `MjData` field, float32 whether `precise` or not."""
        if name in self._state:
            return self._state[name]
        if name not in self._fields:
            self._fields[name] = self._view(getattr(self._d, name))
            self.forward()
        return self._fields[name]

    def model_field(self, name: str) -> Tensor:
        """Return writable per-world values of an `MjModel` field, applied at every later call."""
        if name not in self._model_fields:
            if hasattr(self._m, name):
                owner = self._m
            else:
                owner = self._m.opt
            # One row for all worlds becomes a row for each; kernels take the world's index modulo the rows.
            shared = self._view(getattr(owner, name))
            own = shared[:1].repeat(self.num_envs, *[1] * (shared.dim() - 1))
            array: Any = wp.from_torch(own, dtype=getattr(owner, name).dtype)
            # `put_model` marks fields of one environment like this.
            array._is_batched = True
            setattr(owner, name, array)
            self._model_fields[name] = own
            self._recorder.forget()
        return self._model_fields[name]

    def step(self, num_substeps: int) -> None:
        """Advance every world by `num_substeps` integrator steps."""
        forces = bool(_FORCE_FIELDS & self._fields.keys())

        def steps() -> None:
            for _ in range(num_substeps):
                mjw.step(self._m, self._d)
            if forces:
                mjw.rne_postconstraint(self._m, self._d)

        # Each variant of the work is a recording of its own, under its own name.
        name = f"step {num_substeps}"
        if forces:
            name += " forces"
        self._run(name, steps)

    def forward(self) -> None:
        """Recompute every derived field."""
        self._run("forward", lambda: mjw.forward(self._m, self._d))

    def reset(self, mask: Tensor) -> None:
        """Reset the worlds in `mask`, keeping their positions, velocities and controls.

        Only derived fields that were asked for are brought up to date, and only in the worlds in `mask`:
        those of the others lag by a substep before and after, or a reset elsewhere would show in them.
        """
        for name, value in self._state.items():
            if name not in ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat"):
                _write(value, self._defaults[name], mask)
        if not self._fields:
            return
        # Kernels work on all worlds, so the fields of worlds outside the mask are put back afterwards.
        before = {name: value.clone() for name, value in self._fields.items()}
        if self._fields.keys() <= _KINEMATIC_FIELDS:
            self._run("kinematics", lambda: mjw.fwd_kinematics(self._m, self._d))
        else:
            self.forward()
        for name, value in self._fields.items():
            _write(value, before[name], ~mask)

    def rays(
        self,
        origin: Tensor,
        direction: Tensor,
        *,
        max_group: int = 3,
        body_exclude: int = -1,
        worlds: Tensor | None = None,
    ) -> Tensor:
        """Cast rays of all worlds against geoms of the groups below `max_group`."""
        shape = origin.shape[:2]
        points, vectors = (
            wp.from_torch(value.float().contiguous(), dtype=wp.vec3) for value in (origin, direction)
        )
        distance = torch.empty(shape, device=self.device)
        normal = torch.empty(*shape, 3, device=self.device)
        geom = torch.empty(shape, dtype=torch.int32, device=self.device)
        # One body for each ray.
        excluded = torch.full(shape[1:], body_exclude, dtype=torch.int32, device=self.device)
        groups = wp.types.vector(6, float)(*(float(group < max_group) for group in range(6)))
        outputs = (wp.from_torch(distance), wp.from_torch(geom), wp.from_torch(normal, dtype=wp.vec3))
        with self._recorder.ordered():
            mjw.rays(self._m, self._d, points, vectors, groups, True, wp.from_torch(excluded), *outputs)
        return distance

    def state(self) -> dict[str, Tensor]:
        """Return integration state, per-world model values and derived fields (which lag by a substep)."""
        parts = {"state": self._state, "model": self._model_fields, "derived": self._fields}
        return {
            f"{part}/{name}": value.clone()
            for part, fields in parts.items()
            for name, value in fields.items()
        }

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore `state()`; derived fields come back as they were, not recomputed."""
        parts = {"state": self._state.__getitem__, "model": self.model_field, "derived": self.field}
        names = [key.split("/") for key in state]
        # All views before any is written: the first call for a field recomputes the others.
        views = [parts[part](name) for part, name in names]
        for view, value in zip(views, state.values(), strict=True):
            view.copy_(value)

    def warnings(self) -> tuple[str, ...]:
        """Report each buffer that was too small, once; this waits for the device."""
        lines = self._warnings
        self._warnings = []
        # One transfer from the device for all buffers.
        counts = torch.stack(
            [((self._overflow & int(bits)) != 0).sum() for bits, _ in _OVERFLOWS.values()]
        ).tolist()
        for count, (key, (_, things)) in zip(counts, _OVERFLOWS.items(), strict=True):
            if count and key not in self._reported:
                room = self._room[key]
                lines.append(
                    f"physics.{key}={room}: no room for all {things}, so that up to {count} of "
                    f"{self.num_envs} worlds went on without some; give physics.{key}={2 * room}"
                )
                self._reported.add(key)
        return tuple(lines)

    def _solvable(self, model: mujoco.MjModel) -> mujoco.MjModel:
        """Return a model whose solver Warp has, with a warning if it is not the model's own."""
        if model.opt.solver != mujoco.mjtSolver.mjSOL_PGS:
            return model
        # Both solve the same convex problem, so only how near they come to its solution differs.
        model = copy.copy(model)
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        self._warnings.append(
            "physics=warp has no PGS solver, which the robot asks for; Newton solves instead"
        )
        return model

    @contextlib.contextmanager
    def _filling(self) -> Iterator[None]:
        """Create and fill arrays on the device in the block, and keep Warp's warnings about it."""
        with (
            wp.ScopedDevice(self._recorder.place),
            warnings.catch_warnings(record=True, action="always") as caught,
        ):
            yield
        # Warp's stream filled the arrays, and torch's stream will use them.
        wp.synchronize_device(self._recorder.place)
        self._warnings += [f"physics=warp: {warning.message}" for warning in caught]

    def _view(self, array: wp.array) -> Tensor:
        """Return a torch view in the shape that the CPU engine gives, 3x3 matrices as rows of nine."""
        view = wp.to_torch(array)
        if array.dtype is wp.mat33:
            return view.flatten(-2)
        return view

    def _run(self, name: str, work: Callable[[], None]) -> None:
        # Warp's graph nodes that repeat the solver until it converges pause a capture, which torch's
        # allocator would not recognise afterwards. In one that cannot be cut the solver runs all
        # `opt.iterations`.
        self._m.opt.graph_conditional = self._recorder.can_loop and not self._recorder.joins_capture
        self._recorder.run(name, work)


def _put(model: mujoco.MjModel) -> mjw.Model:
    """Return the model on the device.

    Raises:
        ValueError: Warp cannot simulate it.
    """
    try:
        m = mjw.put_model(model)
    except (NotImplementedError, ValueError) as error:
        raise ValueError(f"physics=warp: cannot simulate this robot ({error}); use physics=mujoco") from error
    # Kernels would print in every step; `warnings` reports it once.
    m.opt.warn_overflow = 0
    return m


def _write(view: Tensor, value: Tensor, mask: Tensor) -> None:
    """Write `value` where `mask` holds. Shapes: (num_envs, ...), (num_envs, ...), (num_envs,)."""
    view.copy_(torch.where(mask.view(-1, *[1] * (view.dim() - 1)), value, view))
