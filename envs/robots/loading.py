"""Robots put on flat ground with position control: the embedded dog, Menagerie's, or those of a file."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np

from factory.envs.robots import actuators, scene
from factory.envs.robots.legs import LEGS, Legs, find_foot, find_legs, pose
from factory.envs.robots.quadruped import Quadruped, describe
from factory.envs.robots.sources import RobotSource, open_robot
from factory.envs.robots.stance import Stance, find_stance


def load_quadruped(robot: str) -> Quadruped:
    """Load `default`, `menagerie:<name>`, `file:<path.xml>` or a registered robot, on flat ground.

    Raises:
        ValueError: the robot is unknown, cannot be read, or lacks something the task needs.
    """
    try:
        return _assemble(open_robot(robot))
    except ValueError as error:
        raise ValueError(f"robot={robot}: {' '.join(str(error).split())}") from error


def _assemble(source: RobotSource) -> Quadruped:
    """Turn a robot's specification into a scene with ground and position control."""
    spec = source.spec
    scene.check_options(spec)
    removed = scene.remove_surroundings(spec)
    added = _add_free_joint(spec)
    if spec.actuators:
        actuators.check_actuators(spec)
    # Compiled as the file gives it: this resolves units, defaults and limits that the file leaves to MuJoCo.
    given = _compile(spec)
    legs = find_legs(given)
    stance = find_stance(given, legs)
    if given.nu:
        limits = actuators.torque_limits(given)
    else:
        actuators.add_actuators(spec)
        limits = np.tile([-np.inf, np.inf], (12, 1))
        added.append("12 actuators")
    feet, added_feet = _spherical_feet(spec, given, legs, stance)
    added += added_feet
    mass_kg = float(given.body_mass.sum())
    kp = actuators.set_position_control(spec, limits, source.parameters, mass_kg)
    scene.limit_contacts(spec, feet)
    scene.set_solver(spec)
    scene.add_ground(spec)

    robot = describe(source.name, _compile(spec), source.parameters)
    _check_standing(robot)
    if source.parameters.kp is None:
        return replace(robot, notes=(_inferred(robot, stance, kp, mass_kg, added, removed),))
    return robot


def _compile(spec: mujoco.MjSpec) -> mujoco.MjModel:
    try:
        return spec.compile()
    except ValueError as error:
        raise ValueError(f"MuJoCo cannot compile it: {error}") from error


def _add_free_joint(spec: mujoco.MjSpec) -> list[str]:
    """Free the base of a file that is fixed to the world, as all URDF files are; return what was added."""
    if any(joint.type == mujoco.mjtJoint.mjJNT_FREE for joint in spec.joints):
        return []
    bases = spec.worldbody.bodies
    # Keyframes of a fixed base have no place for its pose, so such a file means what it says.
    if len(bases) != 1 or bases[0].joints or spec.keys:
        return []
    bases[0].add_freejoint()
    return [f"a free joint on {bases[0].name}"]


def _spherical_feet(
    spec: mujoco.MjSpec, model: mujoco.MjModel, legs: Legs, stance: Stance
) -> tuple[list[mujoco.MjsGeom], list[str]]:
    """Return the four feet, and what was added: spheres where a leg ends in another shape."""
    data = pose(model, stance.qpos)
    geoms = list(spec.geoms)
    feet = []
    added = []
    for name, leg in zip(LEGS, legs.joints, strict=True):
        found = find_foot(model, data, leg)
        if model.geom_type[found.geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
            feet.append(geoms[found.geom])
            continue
        # The sphere touches the ground in the same place; real feet have about a tenth of the leg's length.
        radius = 0.09 * float(np.linalg.norm(found.lowest - data.xanchor[leg[1]]))
        if model.geom_type[found.geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
            radius = float(model.geom_size[found.geom, 0])
        centre = found.lowest + np.array([0.0, 0.0, radius])
        body = int(model.geom_bodyid[found.geom])
        local = data.xmat[body].reshape(3, 3).T @ (centre - data.xpos[body])
        feet.append(
            geoms[found.geom].parent.add_geom(
                type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], pos=local, mass=0.0, group=3
            )
        )
        added.append(f"a spherical foot {name} of {1000 * radius:.0f} mm")
    return feet, added


def _check_standing(robot: Quadruped) -> None:
    """Let the robot hold its home pose for two seconds.

    Raises:
        ValueError: it falls.
    """
    model = robot.model
    # Everything that a description may get wrong and that matters to training shows here.
    data = mujoco.MjData(model)
    data.qpos[:] = robot.home_qpos
    data.ctrl[:] = robot.home_ctrl
    for _ in range(round(2.0 / model.opt.timestep)):
        mujoco.mj_step(model, data)
    # The cosine of the tilt of a quaternion (w, x, y, z): the last entry of its rotation matrix.
    tilt = 1.0 - 2.0 * float(data.qpos[4] ** 2 + data.qpos[5] ** 2)
    height_m = float(data.qpos[2])
    if not (tilt > 0.5 and height_m > 0.5 * robot.home_qpos[2]):
        torques = _listed_torques(robot)
        raise ValueError(
            f"it falls within 2 s of holding its home pose, with a gain of {model.actuator_gainprm[0, 0]:.0f}"
            f" N m/rad and {torques} for {model.body_mass.sum():.1f} kg"
        )


def _inferred(
    robot: Quadruped, stance: Stance, kp: float, mass_kg: float, added: list[str], removed: list[str]
) -> str:
    """Return one line about what the model did not say."""
    model = robot.model
    feet = (model.geom(geom).name or model.body(model.geom_bodyid[geom]).name for geom in robot.foot_geoms)
    parts = [
        f"base {model.body(robot.base_body).name}",
        f"feet {' '.join(feet)}",
        f"home pose: {stance.origin}",
        f"gain {kp:.0f} N m/rad for {mass_kg:.1f} kg",
        _listed_torques(robot),
    ]
    if added:
        parts.append(f"added {', '.join(added)}")
    if removed:
        parts.append(f"left out {', '.join(removed)}")
    return f"robot {robot.name}: {'; '.join(parts)}"


def _listed_torques(robot: Quadruped) -> str:
    """Return the torque limits of a leg as shown to users."""
    limits = actuators.joint_torque_limits(robot.model)
    leg = np.flatnonzero(robot.leg_of_actuator == 0)
    if np.isinf(limits[leg]).all():
        return "no torque limits"
    return f"torques up to {' '.join(f'{limit:g}' for limit in limits[leg])} N m"
