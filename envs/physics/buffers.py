"""Buffer sizes for the contacts and constraints of a model, found by letting it fall."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np

_EPISODES = 4
"""Falls, each from a random pose."""
_STEPS = 500
"""Physics steps of a fall."""
_HOLD = 10
"""Physics steps for which a random control is held."""
_MARGIN = 2
_LEAST = 8
"""Factor on the largest number seen, and the least size."""


class Buffers(NamedTuple):
    """Buffer sizes of one world."""

    nconmax: int
    """Contacts, and pairs of geoms that may be near enough to touch."""
    njmax: int
    """Rows of constraints: contacts, joint limits, friction, equalities."""


def probe(model: mujoco.MjModel) -> Buffers:
    """Return twice the room that falls under random controls needed; equal models give equal sizes."""
    data = mujoco.MjData(model)
    generator = np.random.default_rng(0)
    pairs = _pairs(model)
    contacts = 0
    rows = 0
    candidates = 0
    with _silenced_warnings():
        for _ in range(_EPISODES):
            _pose(model, data, generator)
            for step in range(_STEPS):
                if step % _HOLD == 0:
                    data.ctrl[:] = _control(model, generator)
                mujoco.mj_step(model, data)
                contacts = max(contacts, data.ncon)
                rows = max(rows, data.nefc)
                if step % _HOLD == 0:
                    candidates = max(candidates, _near(model, data, pairs))
    # Warp's contact buffer holds pairs that may touch, too. Bounding spheres overcount them: no margin.
    nconmax = max(_MARGIN * contacts, candidates, _LEAST)
    njmax = max(_MARGIN * rows, _LEAST)
    return Buffers(nconmax, njmax)


@contextlib.contextmanager
def _silenced_warnings() -> Iterator[None]:
    """Silence MuJoCo's warnings about wild falls, on the console and in its log file."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _pose(model: mujoco.MjModel, data: mujoco.MjData, generator: np.random.Generator) -> None:
    """Start an episode: joints near their defaults, floating bodies lifted at random angles, all moving."""
    mujoco.mj_resetData(model, data)
    shift, data.qvel[:] = generator.normal(size=(2, model.nv))
    free = model.jnt_dofadr[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    # Floating bodies move straight up, so that they fall onto what they stood on.
    shift[free] = 0.0
    shift[free + 1] = 0.0
    shift[free + 2] = np.abs(shift[free + 2])
    mujoco.mj_integratePos(model, data.qpos, shift, 0.5)


def _control(model: mujoco.MjModel, generator: np.random.Generator) -> np.ndarray:
    """Return a control anywhere in its range, or in [-1, 1] where it has none. Shape: (nu,)."""
    low, high = np.where(model.actuator_ctrllimited[:, None], model.actuator_ctrlrange, [-1.0, 1.0]).T
    return generator.uniform(low, high)


def _pairs(model: mujoco.MjModel) -> np.ndarray:
    """Return the pairs of geoms that may collide by their masks, those of one body left out.

    Shape: (2, P).
    """
    first, second = np.triu_indices(model.ngeom, k=1)
    contype = model.geom_contype
    conaffinity = model.geom_conaffinity
    body = model.body_weldid[model.geom_bodyid]
    meet = (contype[first] & conaffinity[second]) | (contype[second] & conaffinity[first])
    return np.stack([first, second])[:, (meet != 0) & (body[first] != body[second])]


def _near(model: mujoco.MjModel, data: mujoco.MjData, pairs: np.ndarray) -> int:
    """Count pairs whose bounding spheres touch: at least those that a first look at them lets through."""
    first, second = pairs
    gap = data.geom_xpos[first] - data.geom_xpos[second]
    reach = model.geom_rbound[first] + model.geom_rbound[second]
    apart = np.linalg.norm(gap, axis=-1)
    # A plane has no bounding sphere: its distance is along its normal, the third column of its orientation.
    for one, other in ((first, second), (second, first)):
        plane = model.geom_type[one] == mujoco.mjtGeom.mjGEOM_PLANE
        normal = data.geom_xmat[one][:, [2, 5, 8]]
        height = np.einsum("pi,pi->p", data.geom_xpos[other] - data.geom_xpos[one], normal)
        apart = np.where(plane, height, apart)
        reach = np.where(plane, model.geom_rbound[other], reach)
    margin = np.maximum(model.geom_margin[first], model.geom_margin[second])
    return int((apart <= reach + margin).sum())
