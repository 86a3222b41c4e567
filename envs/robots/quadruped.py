"""Four-legged robots with twelve position-controlled joints: the embedded one, Menagerie's, or a file's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

LEGS = ("FL", "FR", "RL", "RR")


@dataclass(kw_only=True)
class QuadrupedParameters:
    """A robot's particulars that its MJCF does not say."""

    kp: float = 35.0
    """Position gain of every joint [N m/rad]."""
    damping: float = 1.0
    """Joint damping, the derivative gain [N m s/rad]."""
    armature: float = 0.01
    """Rotor inertia reflected to the joint [kg m^2]."""
    action_scale: float = 0.8
    """Joint angle commanded by an action of 1, relative to the home pose [rad]."""
    feet: tuple[str, str, str, str] = LEGS
    """Names of the four foot sphere geoms, in the order FL FR RL RR."""
    base: str = "trunk"
    """Name of the body with the free joint."""


@dataclass(kw_only=True)
class Quadruped:
    """A compiled scene and where its parts are. Joint arrays follow the model's actuator order."""

    name: str
    model: mujoco.MjModel
    parameters: QuadrupedParameters
    home_qpos: np.ndarray
    """Shape: (nq,)."""
    home_ctrl: np.ndarray
    """Joint angles of the home pose in actuator order. Shape: (12,) [rad]."""
    joint_qpos: np.ndarray
    """Addresses in qpos of the actuated joints. Shape: (12,)."""
    joint_qvel: np.ndarray
    """Addresses in qvel of the actuated joints. Shape: (12,)."""
    hip_actuators: np.ndarray
    """Actuators whose joint turns about the forward axis. Shape: (4,)."""
    foot_geoms: np.ndarray
    """Geom ids FL FR RL RR. Shape: (4,)."""
    foot_radius_m: float
    base_body: int


def load_quadruped(robot: str) -> Quadruped:
    """Load `default`, `menagerie:<name>` or `file:<path.xml>` on flat ground.

    Raises:
        ValueError: the robot is unknown, cannot be read, or lacks something the task needs.
    """
    spec, parameters, name = _open_spec(robot)
    _prepare(spec, parameters, robot)
    try:
        model = spec.compile()
    except ValueError as error:
        raise ValueError(f"robot={robot}: MuJoCo cannot compile it: {' '.join(str(error).split())}") from error
    return _describe(name, model, parameters)


def _open_spec(robot: str) -> tuple[mujoco.MjSpec, QuadrupedParameters, str]:
    kind, _, rest = robot.partition(":")
    if robot == "default":
        from envs.robots import kelpie

        return mujoco.MjSpec.from_file(str(kelpie.MJCF)), kelpie.PARAMETERS, "kelpie"
    if kind == "menagerie" and rest:
        return _open_menagerie(rest)
    if kind == "file" and rest:
        path = Path(rest).expanduser()
        if not path.is_file():
            raise ValueError(f"robot={robot}: no such file; give the path of an MJCF or URDF file")
        return _read(path, robot), QuadrupedParameters(), path.stem
    raise ValueError(f"robot={robot}: unknown; choose default, menagerie:<name> or file:<path.xml>")


def _open_menagerie(name: str) -> tuple[mujoco.MjSpec, QuadrupedParameters, str]:
    from envs.robots.menagerie import QUADRUPEDS, robot_file

    if name not in QUADRUPEDS:
        raise ValueError(f"robot=menagerie:{name}: unknown quadruped; choose one of {', '.join(sorted(QUADRUPEDS))}")
    entry, parameters = QUADRUPEDS[name]
    return _read(robot_file(name, entry), f"menagerie:{name}"), parameters, name


def _read(path: Path, robot: str) -> mujoco.MjSpec:
    try:
        return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise ValueError(f"robot={robot}: MuJoCo cannot read {path}: {' '.join(str(error).split())}") from error


def _prepare(spec: mujoco.MjSpec, parameters: QuadrupedParameters, robot: str) -> None:
    """Check the robot, give it position control and foot-only contacts, and put it on flat ground."""
    _check(spec, parameters, robot)
    for geom in spec.geoms:
        is_foot = geom.name in parameters.feet
        geom.contype, geom.conaffinity = 0, int(is_foot)
        if is_foot:
            geom.condim, geom.priority = 3, 1
    for joint in spec.joints:
        if joint.type == mujoco.mjtJoint.mjJNT_HINGE:
            joint.damping = np.broadcast_to(parameters.damping, np.shape(joint.damping)).copy()
            joint.armature, joint.frictionloss = parameters.armature, 0.0
    for actuator in spec.actuators:
        actuator.set_to_position(kp=parameters.kp)
        actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
        joint = spec.joint(actuator.target)
        if not actuator.forcelimited and not joint.actfrclimited and np.ptp(actuator.ctrlrange) > 0:
            actuator.forcerange = actuator.ctrlrange
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    option = spec.option
    option.timestep = 0.004
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.impratio, option.iterations, option.ls_iterations = 1.0, 10, 20
    _add_scene(spec)


def _check(spec: mujoco.MjSpec, parameters: QuadrupedParameters, robot: str) -> None:
    missing = []
    if len(spec.actuators) != 12:
        missing.append(f"12 joint actuators (found {len(spec.actuators)})")
    geoms = {geom.name for geom in spec.geoms}
    feet = [name for name in parameters.feet if name not in geoms]
    if feet:
        missing.append(f"foot geoms named {', '.join(feet)}")
    if not any(body.name == parameters.base for body in spec.bodies):
        missing.append(f"a base body named {parameters.base}")
    if not any(joint.type == mujoco.mjtJoint.mjJNT_FREE for joint in spec.joints):
        missing.append("a free joint on the base")
    if not any(key.name == "home" for key in spec.keys):
        missing.append("a keyframe named home")
    if missing:
        raise ValueError(f"robot={robot}: the model lacks {'; '.join(missing)}")


def _add_scene(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.74, 0.86], rgb2=[0.94, 0.95, 0.97], width=64, height=64,
    )  # fmt: skip
    spec.add_texture(
        name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.82, 0.84], rgb2=[0.70, 0.72, 0.75], width=64, height=64,
    )  # fmt: skip
    material = spec.add_material(name="ground", texuniform=True, texrepeat=[2, 2])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    world = spec.worldbody
    world.add_geom(
        name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], material="ground",
        contype=1, conaffinity=0,
    )  # fmt: skip
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0, 0, 4], dir=[0.4, 0.5, -1], diffuse=[0.8, 0.8, 0.8]
    )


def _describe(name: str, model: mujoco.MjModel, parameters: QuadrupedParameters) -> Quadruped:
    joints = model.actuator_trnid[:, 0]
    home_qpos = model.key("home").qpos.copy()
    joint_qpos = model.jnt_qposadr[joints]
    feet = np.array([model.geom(foot).id for foot in parameters.feet])
    return Quadruped(
        name=name,
        model=model,
        parameters=parameters,
        home_qpos=home_qpos,
        home_ctrl=home_qpos[joint_qpos],
        joint_qpos=joint_qpos,
        joint_qvel=model.jnt_dofadr[joints],
        hip_actuators=np.flatnonzero(np.abs(model.jnt_axis[joints, 0]) > 0.9),
        foot_geoms=feet,
        foot_radius_m=float(model.geom_size[feet[0], 0]),
        base_body=model.body(parameters.base).id,
    )
