"""The home pose of a quadruped: a keyframe that can stand, or one that its legs are put into.

Equations are of one leg: a thigh joint at a, a knee at k and a foot at f, in the base's frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mujoco
import numpy as np

from factory.envs.robots.legs import LEGS, Legs, find_foot, foot_candidates, pose, support, upright

_BENT = 0.8
"""Distance between thigh joint and foot of a pose of our own, in units of the stretched leg's [-]."""
_STRAIGHT = 0.98
"""The same, beyond which a leg is too straight to lift its foot or to push [-]."""

_REMEDY = "correct the keyframe or remove it; without one a pose is inferred from the legs"


@dataclass(frozen=True, kw_only=True)
class Stance:
    """A pose in which a quadruped stands."""

    qpos: np.ndarray
    """Shape: (nq,)."""
    origin: str
    """Its source, as shown to users."""


def find_stance(model: mujoco.MjModel, legs: Legs) -> Stance:
    """Return the keyframe `home`, another one that can stand, or a pose with bent legs.

    Raises:
        ValueError: the keyframe `home` cannot stand, or there is none and the legs have no such pose.
    """
    names = [model.key(key).name for key in range(model.nkey)]
    for key in sorted(range(model.nkey), key=lambda key: names[key] != "home"):
        qpos = model.key_qpos[key]
        fault = _fault(model, legs, qpos)
        if not fault:
            return _on_ground(model, legs, qpos, f"keyframe {names[key] or key}")
        if names[key] == "home":
            raise ValueError(f"keyframe home cannot stand: {fault}; {_REMEDY}")
    return _on_ground(model, legs, _bent_legs(model, legs), "inferred from the legs")


def _fault(model: mujoco.MjModel, legs: Legs, qpos: np.ndarray) -> str:
    """Return why nothing can stand in a pose (nq,), or nothing if it can."""
    # The last entry of the rotation is the cosine of the tilt; a yaw does not matter.
    up = np.zeros(9)
    mujoco.mju_quat2Mat(up, qpos[3:7] / max(float(np.linalg.norm(qpos[3:7])), 1e-9))
    if up[8] < 0.99:
        return f"the z axis of body {model.body(legs.free_body).name} does not point up"
    data = pose(model, upright(model, qpos))
    for name, leg in zip(LEGS, legs.joints, strict=True):
        for joint in leg:
            angle = qpos[model.jnt_qposadr[joint]]
            low, high = _range(model, joint)
            if not low - 0.01 <= angle <= high + 0.01:
                limits = f"{low:.2f} .. {high:.2f} rad"
                return f"joint {model.joint(joint).name} is at {angle:.2f} rad, its range is {limits}"
        thigh, knee = data.xanchor[leg[1:]]
        foot = find_foot(model, data, leg).lowest
        if foot[2] > thigh[2]:
            return f"the foot of leg {name} is above its thigh joint {model.joint(leg[1]).name}"
        reach = _reach(thigh, knee, data.xaxis[leg[2]], foot)
        if np.linalg.norm(foot - thigh) > _STRAIGHT * reach:
            return f"leg {name} is straight: bend its knee, joint {model.joint(leg[2]).name}"
    return ""


def _on_ground(model: mujoco.MjModel, legs: Legs, qpos: np.ndarray, origin: str) -> Stance:
    """Return a pose (nq,) with the base upright, at the height where the feet touch the ground."""
    standing = upright(model, qpos)
    data = pose(model, standing)
    feet = np.array([find_foot(model, data, leg).lowest for leg in legs.joints])
    lengths = np.linalg.norm(feet - data.xanchor[legs.joints[:, 1]], axis=-1)
    heights_m = feet[:, 2] - feet[:, 2].min()
    if heights_m.max() > 0.1 * lengths.mean():
        highest = LEGS[heights_m.argmax()]
        raise ValueError(
            f"{origin} cannot stand: the foot of leg {highest} is {heights_m.max():.3f} m above the lowest;"
            f" {_REMEDY}"
        )

    # A keyframe's own height counts if it is near: robots are drawn a little in the ground or above it.
    gap = feet[:, 2].min()
    if abs(gap) > 0.1 * lengths.mean():
        standing[2] -= gap
    if standing[2] < 0.3 * lengths.mean():
        raise ValueError(
            f"the frame of body {model.body(legs.free_body).name} is {standing[2]:.2f} m above ground in"
            f" {origin}; it must lie in the trunk, since its height tells a fall"
        )
    return Stance(qpos=standing, origin=origin)


def _bent_legs(model: mujoco.MjModel, legs: Legs) -> np.ndarray:
    """Return a pose (nq,) with every foot under its thigh joint, at 0.8 of the leg's reach.

    Raises:
        ValueError: the ranges of a leg's joints allow none.
    """
    data = pose(model, upright(model, model.qpos0))
    for name, leg in zip(LEGS, legs.joints, strict=True):
        if _bend(model, data, leg) > 0.15:
            joints = " ".join(model.joint(joint).name for joint in leg)
            raise ValueError(
                f"no keyframe stands, and leg {name} ({joints}) cannot stand within its joints' ranges;"
                " add a keyframe named home, a stance with bent knees"
            )
    return data.qpos.copy()


def _bend(model: mujoco.MjModel, data: mujoco.MjData, leg: np.ndarray) -> float:
    """Put a leg (3,) of `data` into its stance and return how far it is from the one sought [reach]."""
    hip, thigh, knee = leg
    body, local = _tip(model, data, leg)

    def tip() -> np.ndarray:
        return data.xpos[body] + data.xmat[body].reshape(3, 3) @ local

    def length() -> float:
        return float(np.linalg.norm(tip() - data.xanchor[thigh]))

    def thigh_slope() -> float:
        # Of two angles a half turn apart, prefer the one near zero.
        return float(abs(data.xaxis[thigh][2]) + 1e-3 * abs(data.qpos[model.jnt_qposadr[hip]]))

    # The leg moves in the plane across the thigh's axis, which is vertical where that axis is level.
    _search(model, data, hip, thigh_slope)
    reach = _reach(data.xanchor[thigh], data.xanchor[knee], data.xaxis[knee], tip())

    def distance_error() -> float:
        return abs(length() / reach - _BENT)

    def foot_offset() -> float:
        under = tip() - data.xanchor[thigh]
        return float(abs(under[0]) / reach + 10.0 * (under[2] > 0))

    # A knee bends to either side of the stretched leg; of two equally good ones take that which points
    # backward, as with most robot dogs.
    best = np.inf
    kept = data.qpos.copy()
    for side in _sides(model, data, knee, length):
        error = _search(model, data, knee, distance_error, side)
        error += _search(model, data, thigh, foot_offset)
        error += 0.01 * float(data.xanchor[knee][0] > data.xanchor[thigh][0])
        if error < best:
            best = error
            kept = data.qpos.copy()
    data.qpos[:] = kept
    mujoco.mj_kinematics(model, data)
    return best


def _tip(model: mujoco.MjModel, data: mujoco.MjData, leg: np.ndarray) -> tuple[int, np.ndarray]:
    """Return body and local position (3,) of the point beyond the knee that is farthest from it."""
    knee = data.xanchor[leg[2]]
    farthest = (0, np.zeros(3))
    most = -1.0
    # This does not depend on the pose, in which another part of the leg may be lowest.
    for geom in foot_candidates(model, leg):
        outward = data.geom_xpos[geom] - knee
        if not outward.any():
            continue
        point = support(model, data, geom, outward)
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
            # A ball rolls under the joint: its centre is what stays a radius above the ground.
            point = data.geom_xpos[geom]
        if np.linalg.norm(point - knee) > most:
            most = float(np.linalg.norm(point - knee))
            body = int(model.geom_bodyid[geom])
            farthest = (body, data.xmat[body].reshape(3, 3).T @ (point - data.xpos[body]))
    return farthest


def _sides(
    model: mujoco.MjModel, data: mujoco.MjData, knee: int, length: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Yield the parts of the knee's range on either side of the stretched leg."""
    low, high = _range(model, knee)
    angles = np.linspace(-np.pi, np.pi, 721)
    straight = angles[np.argmax(_values(model, data, knee, angles, length))]
    # The same angle a turn further may be the one within the range.
    straight += 2 * np.pi * np.round(((low + high) / 2 - straight) / (2 * np.pi))
    for side in ((low, min(high, straight)), (max(low, straight), high)):
        if side[0] < side[1]:
            yield side


def _search(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    joint: int,
    cost: Callable[[], float],
    within: tuple[float, float] | None = None,
) -> float:
    """Turn a joint to where `cost` is least within its range, by ever finer grids; return the cost."""
    # Five grids of 121 angles narrow a range of 2 pi to 2 pi / 60^5, some 1e-8 rad.
    least, most = within or _range(model, joint)
    low, high = least, most
    for _ in range(5):
        angles = np.linspace(low, high, 121)
        costs = _values(model, data, joint, angles, cost)
        best = angles[np.argmin(costs)]
        step = angles[1] - angles[0]
        low = max(least, best - step)
        high = min(most, best + step)
    _set(model, data, joint, best)
    return float(min(costs))


def _values(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    joint: int,
    angles: np.ndarray,
    value: Callable[[], float],
) -> list[float]:
    """Return `value` at each of a joint's angles (K,), with `data` there."""
    values = []
    for angle in angles:
        _set(model, data, joint, angle)
        values.append(value())
    return values


def _set(model: mujoco.MjModel, data: mujoco.MjData, joint: int, angle: float) -> None:
    data.qpos[model.jnt_qposadr[joint]] = angle
    mujoco.mj_kinematics(model, data)


def _reach(thigh: np.ndarray, knee: np.ndarray, axis: np.ndarray, foot: np.ndarray) -> float:
    """Return the distance from thigh joint to foot of the stretched leg.

    A turn by t about the unit axis u moves r = f - k to r cos t + (u x r) sin t + u (u . r) (1 - cos t)
    (Rodrigues). With p the part of r across the axis and q = u x p, |f - a| is greatest where p cos t +
    q sin t points along k - a.
    """
    # r, and its parts along the knee's axis and across it.
    arm = foot - knee
    along = axis * (axis @ arm)
    across = arm - along
    # k - a, whose part across the axis is where the stretched foot points.
    towards = knee - thigh
    towards_across = towards - axis * (axis @ towards)
    radius = np.linalg.norm(across)
    fixed = towards + along
    stretched = fixed + radius * towards_across / max(float(np.linalg.norm(towards_across)), 1e-9)
    return float(np.linalg.norm(stretched))


def _range(model: mujoco.MjModel, joint: int) -> tuple[float, float]:
    """Return the angles a joint may take [rad]."""
    if model.jnt_limited[joint]:
        low, high = model.jnt_range[joint]
        return float(low), float(high)
    return -np.pi, np.pi
