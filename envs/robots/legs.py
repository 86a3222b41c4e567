"""Legs of a quadruped: base, four chains of three hinges, and the feet, from the model alone.

The base's frame points forward (x), left (y) and up (z). Legs come in the order FL FR RL RR, their joints in
the order hip, thigh, knee.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

LEGS = ("FL", "FR", "RL", "RR")
_IDENTITY = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Legs:
    """Base and leg joints of a quadruped."""

    free_body: int
    """Body with the free joint."""
    base_body: int
    """Heaviest of the bodies that move with the free joint as one."""
    joints: np.ndarray
    """Joint ids by leg and role. Shape: (4, 3)."""


@dataclass(frozen=True, kw_only=True)
class Foot:
    """Lowest part of a leg in a pose."""

    geom: int
    lowest: np.ndarray
    """Its lowest point in the world's frame. Shape: (3,) [m]."""


def find_legs(model: mujoco.MjModel) -> Legs:
    """Find base and legs.

    Raises:
        ValueError: the model is no quadruped of twelve hinges; the message names the part that differs.
    """
    free_joint = _only_free_joint(model)
    free_body = int(model.jnt_bodyid[free_joint])
    branches: dict[int, list[int]] = {}
    for joint in range(model.njnt):
        if joint == free_joint:
            continue
        if model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_HINGE:
            kind = mujoco.mjtJoint(model.jnt_type[joint]).name.removeprefix("mjJNT_").lower()
            raise ValueError(f"joint {model.joint(joint).name} is a {kind} joint; legs here have hinges only")
        branches.setdefault(_first_joint_above(model, joint), []).append(joint)

    # A branch begins where a hinge is carried by the base itself; four of them must be legs.
    others = [joints for joints in branches.values() if not _is_leg(model, joints)]
    if len(branches) != 4 or others:
        base = model.body(free_body).name or "the base"
        raise ValueError(
            f"a base with four legs of three hinges each is needed; {base} carries {_listed(model, branches)}"
        )
    joints = np.array(list(branches.values()))
    return Legs(
        free_body=free_body,
        base_body=_heaviest_part(model, free_body),
        joints=joints[_corner_order(model, joints)],
    )


def pose(model: mujoco.MjModel, qpos: np.ndarray) -> mujoco.MjData:
    """Return the kinematics of a configuration. Shape of `qpos`: (nq,)."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    return data


def upright(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Return a copy of `qpos` (nq,) with the base above the origin, its axes those of the world."""
    upright = qpos.copy()
    upright[:2] = 0.0
    upright[3:7] = _IDENTITY
    return upright


def find_foot(model: mujoco.MjModel, data: mujoco.MjData, leg: np.ndarray) -> Foot:
    """Return the foot of a leg (3,): the geom beyond its knee that is lowest, a sphere if one is almost so.

    Raises:
        ValueError: nothing is attached beyond the knee.
    """
    feet = []
    for geom in foot_candidates(model, leg):
        lowest = support(model, data, geom, np.array([0.0, 0.0, -1.0]))
        feet.append(Foot(geom=geom, lowest=lowest))
    found = min(feet, key=lambda foot: foot.lowest[2])

    # The contact of a sphere is a single point at a known height, so take one that is meant as the foot even
    # if a mesh around it reaches a little lower.
    for foot in feet:
        is_sphere = model.geom_type[foot.geom] == mujoco.mjtGeom.mjGEOM_SPHERE
        if is_sphere and foot.lowest[2] < found.lowest[2] + 0.5 * model.geom_size[foot.geom, 0]:
            return foot
    return found


def foot_candidates(model: mujoco.MjModel, leg: np.ndarray) -> list[int]:
    """Return the geoms beyond the knee of a leg (3,): those that collide, or all if none does."""
    knee_body = model.jnt_bodyid[leg[2]]
    geoms = [geom for geom in range(model.ngeom) if _is_below(model, int(model.geom_bodyid[geom]), knee_body)]
    if not geoms:
        raise ValueError(
            f"nothing that could touch the ground is on the body of joint {_name(model, leg[2])}"
        )
    # Pictures of a leg are often larger than its shape in collisions; a file without any has no choice.
    collides = model.geom_contype | model.geom_conaffinity
    return [geom for geom in geoms if collides[geom]] or geoms


def support(model: mujoco.MjModel, data: mujoco.MjData, geom: int, direction: np.ndarray) -> np.ndarray:
    """Return the point of a geom that lies farthest in a direction, both in the world's frame. Shapes: (3,).

    For a convex shape s(d) = argmax of x . d over its points x, taken in the geom's frame (Ericson 2004,
    Real-Time Collision Detection, section 9.5).
    """
    kind = mujoco.mjtGeom
    centre = data.geom_xpos[geom]
    rotation = data.geom_xmat[geom].reshape(3, 3)
    size = model.geom_size[geom]
    along = rotation.T @ direction / np.linalg.norm(direction)
    shape = model.geom_type[geom]
    if shape == kind.mjGEOM_SPHERE:
        local = size[0] * along
    elif shape == kind.mjGEOM_CAPSULE:
        local = size[0] * along
        local[2] += size[1] * np.sign(along[2])
    elif shape == kind.mjGEOM_CYLINDER:
        radial = np.hypot(along[0], along[1])
        local = np.append(size[0] * along[:2] / max(radial, 1e-9), size[1] * np.sign(along[2]))
    elif shape == kind.mjGEOM_ELLIPSOID:
        local = size**2 * along / np.linalg.norm(size * along)
    elif shape == kind.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
        local = vertices[np.argmax(vertices @ along)]
    else:  # a box; of everything else, the box around it
        centre = centre + rotation @ model.geom_aabb[geom, :3]
        local = model.geom_aabb[geom, 3:] * np.sign(along)
    return centre + rotation @ local


def _only_free_joint(model: mujoco.MjModel) -> int:
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    if not free.size:
        raise ValueError("no body has a free joint, so nothing could walk; add <freejoint/> to the base")
    if len(free) > 1:
        names = ", ".join(model.body(model.jnt_bodyid[joint]).name or "unnamed" for joint in free)
        raise ValueError(f"several bodies have a free joint ({names}); leave the robot alone in the file")
    if model.jnt_qposadr[free[0]] != 0:
        first = _name(model, 0)
        raise ValueError(f"joint {first} comes before the base; leave the robot alone in the file")
    return int(free[0])


def _first_joint_above(model: mujoco.MjModel, joint: int) -> int:
    """Return the hinge next to the base on the way from `joint` up to it."""
    first = joint
    body = int(model.jnt_bodyid[joint])
    while body:
        if model.body_jntnum[body] and model.jnt_type[model.body_jntadr[body]] != mujoco.mjtJoint.mjJNT_FREE:
            first = int(model.body_jntadr[body])
        body = int(model.body_parentid[body])
    return first


def _is_leg(model: mujoco.MjModel, joints: list[int]) -> bool:
    """Return whether joints, in the model's order, are three that follow one another."""
    bodies = [int(model.jnt_bodyid[joint]) for joint in joints]
    return len(joints) == 3 and all(_is_below(model, lower, upper) for upper, lower in pairwise(bodies))


def _is_below(model: mujoco.MjModel, body: int, ancestor: int) -> bool:
    """Return whether `body` is `ancestor` or is carried by it."""
    while body and body != ancestor:
        body = int(model.body_parentid[body])
    return body == ancestor


def _heaviest_part(model: mujoco.MjModel, free_body: int) -> int:
    """Return the heaviest of the bodies that are fixed to the free one, which may be a mere frame."""
    # Bodies that move as one have the same `weldid`: the topmost of them.
    parts = np.flatnonzero(model.body_weldid == free_body)
    return int(parts[np.argmax(model.body_mass[parts])])


def _corner_order(model: mujoco.MjModel, joints: np.ndarray) -> list[int]:
    """Return the places in `joints` (4, 3) of the legs FL FR RL RR, by where their thighs begin."""
    # Thighs stay at the corners however the legs fold, feet need not.
    data = pose(model, upright(model, model.qpos0))
    thighs = data.xanchor[joints[:, 1]]
    offsets = thighs - thighs.mean(0)
    order = []
    for name, (x, y) in zip(LEGS, ((1, 1), (1, -1), (-1, 1), (-1, -1)), strict=True):
        found = np.flatnonzero((offsets[:, 0] * x > 1e-3) & (offsets[:, 1] * y > 1e-3))
        if len(found) != 1:
            places = "; ".join(
                f"{_name(model, leg[1])} at ({place[0]:.2f}, {place[1]:.2f}) m"
                for leg, place in zip(joints, thighs, strict=True)
            )
            raise ValueError(f"no leg is at the corner {name} of the base: {places} (x forward, y left)")
        order.append(int(found[0]))
    return order


def _listed(model: mujoco.MjModel, branches: dict[int, list[int]]) -> str:
    """Return the joints of every branch as shown to users."""
    chains = (" ".join(_name(model, joint) for joint in joints) for joints in branches.values())
    return "; ".join(chains) or "no joints"


def _name(model: mujoco.MjModel, joint: int) -> str:
    return model.joint(joint).name or f"number {joint}"
