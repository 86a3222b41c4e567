"""MuJoCo's C engine on a thread pool (`mjbatch`), seen through torch views."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import torch
from mjbatch import Batch
from torch import Tensor

from factory.envs.physics import engine_timers
from factory.runtime.awake_time import awake_s
from factory.runtime.cpus import usable_cpus

_STATE_FIELDS = frozenset(
    {"qpos", "qvel", "act", "ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat"}
)
"""Parts of mjSTATE_INTEGRATION: bound as strided float64 views of the state rows, so nothing is copied."""
_INTEGER_FIELDS = frozenset({"eq_active", "warning"})


class MujocoPhysics:
    """CPU engine. See `factory.envs.physics.base.Physics` for the contract of every method."""

    def __init__(
        self, model: mujoco.MjModel, *, num_envs: int, device: torch.device, num_threads: int = 0
    ) -> None:
        if device.type != "cpu":
            raise ValueError(
                f"device={device}: physics=mujoco runs on the CPU; use physics=warp, or device=cpu"
            )
        self.model = model
        self.num_envs = num_envs
        self.device = device
        self.elapsed_s = 0.0
        self._batch = Batch(_prepared(model), num_envs, num_threads or len(usable_cpus()))
        self._rows = self._batch.bind("state")
        self._fields: dict[str, Tensor] = {}
        self._model_fields: dict[str, Tensor] = {}
        self._kept = ["qpos", "qvel"]
        if model.nu:
            self._kept.append("ctrl")
        if model.nmocap:
            self._kept += ["mocap_pos", "mocap_quat"]
        self._batch.reset()
        # The integration state of a fresh world, which resets write back.
        self._default_row = self._rows[0].copy()

    def field(self, name: str, *, precise: bool = False) -> Tensor:
        """Return the live view of an `MjData` field: float64 for state and `precise` fields, else float32."""
        if name not in self._fields:
            if precise or name in _STATE_FIELDS | _INTEGER_FIELDS:
                dtype = None
            else:
                dtype = np.float32
            self._fields[name] = torch.from_numpy(self._batch.bind(name, dtype))
            # A view that was just bound is empty until the engine writes to it.
            if name not in _STATE_FIELDS:
                self._batch.forward()
        return self._fields[name]

    def model_field(self, name: str) -> Tensor:
        """Return writable per-world values of an `MjModel` field, applied at every later call."""
        if name not in self._model_fields:
            self._model_fields[name] = torch.from_numpy(self._batch.expand(name))
        return self._model_fields[name]

    def step(self, num_substeps: int) -> None:
        """Advance every world by `num_substeps` integrator steps on the thread pool."""
        self._timed(self._batch.step, nstep=num_substeps)

    def forward(self) -> None:
        """Recompute every derived field."""
        self._timed(self._batch.forward)

    def reset(self, mask: Tensor) -> None:
        """Reset the worlds in `mask`, keeping their positions, velocities and controls.

        `Batch.reset` would take a written value that equals the old one for no write, and put the model's
        default there; so the rows are made here and `forward` fills the derived fields.
        """
        worlds = mask.numpy()
        if worlds.any():
            # Views of the rows: keep what was written to them while the rows are replaced.
            fields = [self.field(name).numpy() for name in self._kept]
            kept = [field[worlds] for field in fields]
            self._rows[worlds] = self._default_row
            for field, values in zip(fields, kept, strict=True):
                field[worlds] = values
            self._timed(self._batch.forward, worlds)

    def rays(
        self,
        origin: Tensor,
        direction: Tensor,
        *,
        max_group: int = 3,
        body_exclude: int = -1,
        worlds: Tensor | None = None,
    ) -> Tensor:
        """Cast rays against geoms of the groups below `max_group`; worlds that do not matter are left out."""
        distance = np.full(origin.shape[:2], -1.0, np.float32)
        # MuJoCo has six geom groups.
        groups = (np.arange(6) < max_group).astype(np.uint8)
        # One body for each ray.
        excluded = np.full(origin.shape[1], body_exclude, np.int32)
        only = {}
        if worlds is not None and not bool(worlds.all()):
            only["ids"] = np.flatnonzero(worlds.numpy())
        self._timed(
            self._batch.rays,
            origin.numpy(),
            direction.numpy(),
            distance,
            geomgroup=groups,
            bodyexclude=excluded,
            **only,
        )
        return torch.from_numpy(distance)

    def state(self) -> dict[str, Tensor]:
        """Return integration state, per-world model values and derived fields (which lag by a substep)."""
        # Derived fields lag behind the state by a substep, so they cannot be recomputed from it.
        rows = {"integration": torch.from_numpy(self._rows.copy())}
        model = {f"model/{name}": value.clone() for name, value in self._model_fields.items()}
        derived = {f"derived/{n}": v.clone() for n, v in self._fields.items() if n not in _STATE_FIELDS}
        return rows | model | derived

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore `state()`; derived fields come back as they were, not recomputed."""
        for name in (key.removeprefix("model/") for key in state if key.startswith("model/")):
            self.model_field(name).copy_(state[f"model/{name}"])
        derived = {
            key.removeprefix("derived/"): value for key, value in state.items() if key.startswith("derived/")
        }
        # All before any is written: the first call for a field recomputes the others.
        fields = [self.field(name, precise=value.dtype == torch.float64) for name, value in derived.items()]
        for field, value in zip(fields, derived.values(), strict=True):
            field.copy_(value)
        self._rows[:] = state["integration"].numpy()

    def warnings(self) -> tuple[str, ...]:
        """Return nothing: MuJoCo's buffers grow as they need to."""
        return ()

    def _timed(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        # The timers of MuJoCo itself cost time in every substep of every world.
        start = awake_s()
        with engine_timers.stopped():
            call(*args, **kwargs)
        self.elapsed_s += awake_s() - start


def _prepared(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a model without automatic resets, and without the search for islands where there is one tree.

    MuJoCo would silently put a world that diverged into its default state in the middle of an episode.
    With one tree there are no independent groups of trees: all is the same, bit for bit, in 3 to 8 % less
    time.
    """
    model = copy.copy(model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    if model.ntree == 1:
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    return model
