"""How much room the contacts and constraints of a model need, found by letting it fall about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np

_EPISODES, _STEPS, _HOLD = 4, 500, 10
"""Falls from a random pose, their physics steps, and the steps for which one random control is held."""
_MARGIN, _LEAST = 2, 8
"""Times what was seen, and at least so many."""


class Buffers(NamedTuple):
    """Room of one world."""

    nconmax: int
    """Contacts, and pairs of geoms that may be near enough to touch."""
    njmax: int
    """Rows of constraints: contacts, joint limits, friction, equalities."""


def probe(model: mujoco.MjModel) -> Buffers:
    """Return room for twice what was seen in falls under random controls, from equal seeds on every call."""
    data, generator = mujoco.MjData(model), np.random.default_rng(0)
    pairs = _pairs(model)
    contacts = rows = candidates = 0
    with _unheard_warnings():
        for _ in range(_EPISODES):
            _pose(model, data, generator)
            for step in range(_STEPS):
                if step % _HOLD == 0:
                    data.ctrl[:] = _control(model, generator)
                mujoco.mj_step(model, data)
                contacts, rows = max(contacts, data.ncon), max(rows, data.nefc)
                if step % _HOLD == 0:
                    candidates = max(candidates, _near(model, data, pairs))
    return Buffers(max(_MARGIN * contacts, candidates, _LEAST), max(_MARGIN * rows, _LEAST))


@contextlib.contextmanager
def _unheard_warnings() -> Iterator[None]:
    """Keep MuJoCo from telling, and from writing to a log file, what goes wrong in a wild fall."""
    heard = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(heard)


def _pose(model: mujoco.MjModel, data: mujoco.MjData, generator: np.random.Generator) -> None:
    """Start an episode: every joint anywhere near its default, floating bodies turned anyhow and lifted, all moving."""
    mujoco.mj_resetData(model, data)
    shift, data.qvel[:] = generator.normal(size=(2, model.nv))
    free = model.jnt_dofadr[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    shift[free], shift[free + 1], shift[free + 2] = 0.0, 0.0, np.abs(shift[free + 2])
    mujoco.mj_integratePos(model, data.qpos, shift, 0.5)


def _control(model: mujoco.MjModel, generator: np.random.Generator) -> np.ndarray:
    """Return a control anywhere in its range, or in [-1, 1] where it has none. Shape: (nu,)."""
    low, high = np.where(model.actuator_ctrllimited[:, None], model.actuator_ctrlrange, [-1.0, 1.0]).T
    return generator.uniform(low, high)


def _pairs(model: mujoco.MjModel) -> np.ndarray:
    """Return the pairs of geoms that may collide by their masks, those of one body left out. Shape: (2, P)."""
    first, second = np.triu_indices(model.ngeom, k=1)
    contype, conaffinity, body = (
        model.geom_contype,
        model.geom_conaffinity,
        model.body_weldid[model.geom_bodyid],
    )
    meet = (contype[first] & conaffinity[second]) | (contype[second] & conaffinity[first])
    return np.stack([first, second])[:, (meet != 0) & (body[first] != body[second])]


def _near(model: mujoco.MjModel, data: mujoco.MjData, pairs: np.ndarray) -> int:
    """Count pairs whose bounding spheres touch: at least those that a first look at them lets through."""
    first, second = pairs
    gap = data.geom_xpos[first] - data.geom_xpos[second]
    reach = model.geom_rbound[first] + model.geom_rbound[second]
    apart = np.linalg.norm(gap, axis=-1)
    for one, other in ((first, second), (second, first)):
        plane = model.geom_type[one] == mujoco.mjtGeom.mjGEOM_PLANE
        height = np.einsum(
            "pi,pi->p", data.geom_xpos[other] - data.geom_xpos[one], data.geom_xmat[one][:, [2, 5, 8]]
        )
        apart, reach = np.where(plane, height, apart), np.where(plane, model.geom_rbound[other], reach)
    margin = np.maximum(model.geom_margin[first], model.geom_margin[second])
    return int((apart <= reach + margin).sum())
