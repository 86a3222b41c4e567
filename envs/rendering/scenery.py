"""Floor, light and sky for models that have none, so that videos show more than a robot in the dark."""

from __future__ import annotations

import mujoco
import numpy as np

_PREFIX = "scenery_"
"""Start of the names, which must not be those of the model."""
_TEXELS = 64
_GROUND = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)


def add_scenery(spec: mujoco.MjSpec) -> None:
    """Add what a model lacks of sky, light and floor; nothing that is added takes part in the simulation.

    Raises:
        ValueError: MuJoCo cannot compile the model.
    """
    if not any(texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX for texture in spec.textures):
        add_sky(spec, f"{_PREFIX}sky")
    # The headlight of MuJoCo moves with the camera and casts no shadow.
    if not spec.lights:
        add_sun(spec)
    if not any(geom.type in _GROUND for geom in spec.geoms):
        # Without contacts: a robot that was made to hang or to fly must not begin to stand.
        lowest_m = _lowest_point_m(spec.copy().compile())
        add_floor(spec, f"{_PREFIX}floor", height_m=lowest_m, contype=0)


def add_sky(spec: mujoco.MjSpec, name: str) -> None:
    """Add a sky; `name` must be free among the textures."""
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.74, 0.86],
        rgb2=[0.94, 0.95, 0.97],
        width=_TEXELS,
        height=_TEXELS,
    )


def add_sun(spec: mujoco.MjSpec) -> None:
    """Add a directional light, which is as bright far away as near by."""
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.0, 0.0, 4.0],
        dir=[0.4, 0.5, -1.0],
        diffuse=[0.8, 0.8, 0.8],
    )


def add_floor(spec: mujoco.MjSpec, name: str, *, height_m: float, contype: int) -> None:
    """Add a chequered plane.

    Args:
        spec: the model.
        name: must be free among textures, materials and geoms.
        height_m: of the plane.
        contype: the geoms that it touches, by the bits of their `conaffinity`; 0: none.
    """
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.82, 0.84],
        rgb2=[0.70, 0.72, 0.75],
        width=_TEXELS,
        height=_TEXELS,
    )
    material = spec.add_material(name=name, texuniform=True, texrepeat=[2, 2])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=[0.0, 0.0, height_m],
        size=[0.0, 0.0, 0.05],
        material=name,
        contype=contype,
        conaffinity=0,
    )


def _lowest_point_m(model: mujoco.MjModel) -> float:
    """Return the height below every geom of the model in its first pose, 0 m for a model without geoms."""
    if model.ngeom == 0:
        return 0.0
    # In `qpos0`, where the episodes of these tasks begin, up to noise.
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    # A sphere around every geom is a little too large, and the floor then a little too low.
    return float(np.min(data.geom_xpos[:, 2] - model.geom_rbound))
