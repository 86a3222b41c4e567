"""The world a robot of a file is put into: flat ground that only its feet touch, under our own solver."""

from __future__ import annotations

from collections.abc import Iterable

import mujoco

from factory.envs.rendering import scenery

_SENSELESS = {
    mujoco.mjtDisableBit.mjDSBL_CONSTRAINT: "constraint",
    mujoco.mjtDisableBit.mjDSBL_CONTACT: "contact",
    mujoco.mjtDisableBit.mjDSBL_LIMIT: "limit",
    mujoco.mjtDisableBit.mjDSBL_GRAVITY: "gravity",
    mujoco.mjtDisableBit.mjDSBL_ACTUATION: "actuation",
    mujoco.mjtDisableBit.mjDSBL_DAMPER: "damper",
    mujoco.mjtDisableBit.mjDSBL_SPRING: "spring",
}
"""Flags of a file without which a walking robot would be another problem -> their names in the file."""


def check_options(spec: mujoco.MjSpec) -> None:
    """Check that the file leaves the physics on.

    Raises:
        ValueError: gravity is missing or sideways, or a flag switches off something that walking needs.
    """
    for bit, name in _SENSELESS.items():
        if spec.option.disableflags & bit:
            raise ValueError(f'<flag {name}="disable"/> in its <option> makes walking meaningless; remove it')
    # Height, falls and gait are measured along the world's z axis.
    across_x, across_y, along = (float(component) for component in spec.option.gravity)
    if not along < 0.0 or max(abs(across_x), abs(across_y)) > -0.01 * along:
        raise ValueError(
            f'gravity="{across_x:g} {across_y:g} {along:g}" in its <option> must point down the z axis,'
            ' such as "0 0 -9.81"'
        )


def remove_surroundings(spec: mujoco.MjSpec) -> list[str]:
    """Remove the file's own ground and whatever is fixed in the world; return the names of it."""
    removed = []
    for geom in list(spec.worldbody.geoms):
        removed.append(f"geom {geom.name or 'without a name'}")
        spec.delete(geom)
    for body in list(spec.worldbody.bodies):
        if not any(part.joints for part in (body, *_below(body))):
            removed.append(f"body {body.name or 'without a name'}")
            spec.delete(body)
    # Pairs collide whatever the geoms' own settings are.
    for pair in list(spec.pairs):
        removed.append(f"contact pair {pair.name or f'{pair.geomname1} {pair.geomname2}'}")
        spec.delete(pair)
    return removed


def limit_contacts(spec: mujoco.MjSpec, feet: Iterable[mujoco.MjsGeom]) -> None:
    """Let the feet touch the ground, and nothing else touch anything."""
    for geom in spec.geoms:
        # Contacts of shins and trunk cost time and teach little.
        geom.contype = 0
        geom.conaffinity = 0
    for foot in feet:
        foot.conaffinity = 1
        foot.condim = 3
        # The friction of the feet counts, which differs between environments.
        foot.priority = 1


def set_solver(spec: mujoco.MjSpec) -> None:
    """Set integrator and contact solver."""
    # Implicit damping is stable at 4 ms; a few solver iterations suffice for four point contacts.
    option = spec.option
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.impratio = 1.0
    option.iterations = 10
    option.ls_iterations = 20
    option.enableflags = 0


def add_ground(spec: mujoco.MjSpec) -> None:
    """Add ground, sky and light, under names that the file does not use."""
    textures = {texture.name for texture in spec.textures}
    others = {part.name for part in (*spec.materials, *spec.geoms)}
    scenery.add_sky(spec, _unused("sky", textures))
    scenery.add_floor(spec, _unused("ground", textures | others), height_m=0.0, contype=1)
    scenery.add_sun(spec)


def _unused(name: str, taken: set[str]) -> str:
    """Return `name`, with as many prefixes as it takes to be unused."""
    while name in taken:
        name = f"factory_{name}"
    return name


def _below(body: mujoco.MjsBody) -> Iterable[mujoco.MjsBody]:
    for child in body.bodies:
        yield child
        yield from _below(child)
