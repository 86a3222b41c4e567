"""The camera of a video: one that follows a body, or one of the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mujoco
import numpy as np

Recording = np.ndarray | Sequence[Any]
"""One snapshot of a world a frame, as `TrainingEnv.snapshot` takes them: for a MuJoCo model its positions
(nq,).
"""


class View(NamedTuple):
    """Position and orientation of a pinhole camera in one frame; both back ends draw from it.

    `axes` holds right, up and back as columns, as MuJoCo's `cam_xmat` does: the camera looks along -back.
    `focus_m` is the distance to the subject.
    """

    eye: np.ndarray
    axes: np.ndarray
    fovy_deg: float
    focus_m: float


@dataclass(kw_only=True, frozen=True)
class Camera:
    """A camera that follows a body without shaking, or a camera of the model by name."""

    azimuth_deg: float = 130.0
    """Heading of the line of sight around z, MuJoCo's convention: 0 looks along +x, 90 along +y."""
    elevation_deg: float = -18.0
    """Pitch of the line of sight; negative looks down."""
    distance_m: float | None = None
    """Distance to the tracked point; None fits the tracked robot into the picture."""
    track: str | int | None = None
    """Body, by name or id, whose subtree's centre of mass is followed; None is the first that can move."""
    smoothing_frames: float = 6.0
    """Standard deviation of the Gaussian that smooths the path of the tracked point; 0 follows rigidly."""
    fixed: str | None = None
    """Name of a camera of the model, used instead of following."""

    def views(self, model: mujoco.MjModel, qpos: Recording) -> list[View]:
        """Return the view of every frame of a video; `qpos` is `(F, nq)`.

        Raises:
            ValueError: the body or the camera is not in the model, or `qpos` does not fit the model.
        """
        qpos = np.asarray(qpos, dtype=np.float64)
        if qpos.ndim != 2 or qpos.shape[1] != model.nq:
            raise ValueError(f"qpos has shape {qpos.shape}: give (frames, {model.nq}), one row per frame")
        data = mujoco.MjData(model)
        if self.fixed:
            return self._fixed_views(model, data, qpos)
        return self._follow_views(model, data, qpos)

    def _fixed_views(self, model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray) -> list[View]:
        camera = _find(model, mujoco.mjtObj.mjOBJ_CAMERA, self.fixed, "camera.fixed")
        views = []
        for row in qpos:
            _place(model, data, row)
            eye = data.cam_xpos[camera].copy()
            axes = data.cam_xmat[camera].reshape(3, 3).copy()
            # The subject of a fixed camera is unknown: take the model as a whole.
            focus_m = max(float(np.linalg.norm(eye - model.stat.center)), float(model.stat.extent))
            views.append(View(eye, axes, float(model.cam_fovy[camera]), focus_m))
        return views

    def _follow_views(self, model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray) -> list[View]:
        body = self._tracked(model)
        path = np.empty((len(qpos), 3))
        for frame, row in enumerate(qpos):
            _place(model, data, row)
            # Body 0 is the world: nothing moves, so the camera looks at the middle of the model.
            path[frame] = model.stat.center
            if body:
                path[frame] = data.subtree_com[body]
        distance = self.distance_m
        if distance is None and body:
            distance = 3.2 * _radius(model, data, body)
        elif distance is None:
            distance = 1.5 * float(model.stat.extent)

        # The camera looks along -back; right is level, so the horizon is too.
        azimuth, elevation = np.radians([self.azimuth_deg, self.elevation_deg])
        back = -np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
        axes = np.stack([right, np.cross(back, right), back], axis=1)
        fovy_deg = float(model.vis.global_.fovy)
        path = _smooth(path, self.smoothing_frames, jump_m=0.5 * distance)
        return [View(point + distance * back, axes, fovy_deg, distance) for point in path]

    def _tracked(self, model: mujoco.MjModel) -> int:
        # Without any moving body argmax gives 0, the world.
        if self.track is None:
            return int(np.argmax(model.body_dofnum > 0))
        return _find(model, mujoco.mjtObj.mjOBJ_BODY, self.track, "camera.track")


def _find(model: mujoco.MjModel, kind: mujoco.mjtObj, key: str | int | None, setting: str) -> int:
    """Return the id of a body or camera given by name or id."""
    count = model.ncam
    if kind == mujoco.mjtObj.mjOBJ_BODY:
        count = model.nbody
    if isinstance(key, str):
        index = mujoco.mj_name2id(model, kind, key)
    else:
        index = int(key or 0)
    if not 0 <= index < count:
        names = [mujoco.mj_id2name(model, kind, i) or str(i) for i in range(count)]
        raise ValueError(f"{setting}={key}: not in the model; choose one of {', '.join(names) or 'none'}")
    return index


def _place(model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray) -> None:
    """Move every body, centre of mass and camera to where `qpos` puts it."""
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


def _radius(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> float:
    """Return the radius [m] about the centre of mass that holds the body's visible subtree."""
    # Children come after their parents in the list of bodies, so one pass finds the subtree.
    in_tree = np.zeros(model.nbody, dtype=bool)
    in_tree[body] = True
    for child in range(body + 1, model.nbody):
        in_tree[child] = in_tree[model.body_parentid[child]]
    mine = in_tree[model.geom_bodyid] & (model.geom_group < 3)
    if not mine.any():
        return float(model.stat.extent)
    reach = np.linalg.norm(data.geom_xpos[mine] - data.subtree_com[body], axis=1) + model.geom_rbound[mine]
    return float(reach.max())


def _smooth(path: np.ndarray, sigma: float, *, jump_m: float) -> np.ndarray:
    """Return the path `(F, 3)` smoothed by a Gaussian, but cut where it jumps: an episode began there."""
    if sigma <= 0 or len(path) < 2:
        return path
    cuts = np.flatnonzero(np.linalg.norm(np.diff(path, axis=0), axis=1) > jump_m) + 1
    pieces = []
    for piece in np.split(path, cuts):
        # Weights w_ij = exp(-(i - j)^2 / (2 sigma^2)), normalised at the ends too.
        offsets = np.arange(len(piece))
        weights = np.exp(-0.5 * ((offsets[:, None] - offsets) / sigma) ** 2)
        pieces.append(weights @ piece / weights.sum(axis=1, keepdims=True))
    return np.concatenate(pieces)
