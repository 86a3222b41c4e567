"""Four-legged robots with twelve position-controlled joints: the embedded one, Menagerie's, or a file's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch

from factory.envs.robots import robot_file
from factory.envs.terms.symmetry import Mirror
from factory.registry import ROBOTS

LEGS = ("FL", "FR", "RL", "RR")


@dataclass(kw_only=True)
class QuadrupedParameters:
    """Properties of a robot that its MJCF does not contain."""

    kp: float = 80.0
    """Position gain of every joint [N m/rad]."""
    damping: float = 0.8
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
    knee_actuators: np.ndarray
    """Actuators of the joints nearest to the feet. Shape: (4,)."""
    leg_of_actuator: np.ndarray
    """Leg (0 FL, 1 FR, 2 RL, 3 RR) each actuator belongs to. Shape: (12,)."""
    hip_xy_m: np.ndarray
    """Positions of the thigh joints FL FR RL RR in the trunk's frame. Shape: (4, 2) [m]."""
    leg_length_m: float
    """Distance from the thigh joint to the foot at the home pose [m]."""
    foot_geoms: np.ndarray
    """Geom ids FL FR RL RR. Shape: (4,)."""
    foot_radius_m: float
    base_body: int

    def mirror_joints(self) -> Mirror:
        """Return what joint angles in actuator order look like in the sagittal plane's mirror.

        Left and right legs change places. A rotation about the y axis keeps its sense, one about x or z turns
        it around; axes that are already mirrored in the model do so by themselves.
        """
        joints = self.model.actuator_trnid[:, 0]
        axes = self.model.jnt_axis[joints]
        # Roles in a leg: 0 hip, 1 thigh, 2 knee. Legs: 0 FL, 1 FR, 2 RL, 3 RR, so `^ 1` is the other side.
        roles = np.where(np.isin(np.arange(12), self.hip_actuators), 0, 1)
        roles[self.knee_actuators] = 2
        index = np.array(
            [
                next(j for j in range(12) if roles[j] == roles[i] and self.leg_of_actuator[j] == leg ^ 1)
                for i, leg in enumerate(self.leg_of_actuator)
            ]
        )
        # A rotation is a pseudovector: the mirror y -> -y keeps its y component and turns the others.
        reflected = axes[index] * np.array([-1.0, 1.0, -1.0])
        sign = np.sign((axes * reflected).sum(-1))
        return Mirror(torch.from_numpy(index), torch.from_numpy(sign).float())

    def hip_levers(self) -> np.ndarray:
        """Return the planar velocity of each hip per unit of yaw rate: z x r = (-y, x). Shape: (4, 2) [m]."""
        return np.stack([-self.hip_xy_m[:, 1], self.hip_xy_m[:, 0]], -1)

    def sweep_joints(self) -> np.ndarray:
        """Return the joint turns that move a foot by its leg's length forward and left. Shape: (12, 2) [rad].

        A hanging leg goes back when it turns about y, and left when it turns about x.
        """
        axes = self.model.jnt_axis[self.model.actuator_trnid[:, 0]]
        turns = np.stack([-axes[:, 1], axes[:, 0]], -1)
        turns[self.knee_actuators] = 0.0
        return turns

    def lift_offsets(self, height_m: float) -> np.ndarray:
        """Return the joint offsets that raise every foot by `height_m` under its hip. Shape: (12,) [rad].

        Thigh and calf are taken as equally long: turning the thigh by d and the calf by -2 d moves the foot
        along the line to the hip, and its distance is proportional to cos(half the knee angle + d).
        """
        # distance to the hip = 2 l cos(knee / 2); raising the foot by h makes it (1 - h / leg) times as long.
        half_knee = np.abs(self.home_ctrl[self.knee_actuators]).mean() / 2
        reached = np.cos(half_knee) * (1.0 - height_m / self.leg_length_m)
        turn = float(np.arccos(np.clip(reached, -1.0, 1.0)) - half_knee)
        offsets = np.full(12, turn)
        offsets[self.knee_actuators] = -2.0 * turn
        offsets[self.hip_actuators] = 0.0
        return offsets


def load_quadruped(robot: str) -> Quadruped:
    """Load `default`, `menagerie:<name>`, `file:<path.xml>` or a registered robot, on flat ground.

    Raises:
        ValueError: the robot is unknown, cannot be read, or lacks something the task needs.
    """
    spec, parameters, name = _open_spec(robot)
    _prepare(spec, parameters, robot)
    try:
        model = spec.compile()
    except ValueError as error:
        raise ValueError(
            f"robot={robot}: MuJoCo cannot compile it: {' '.join(str(error).split())}"
        ) from error
    return _describe(name, model, parameters)


def _open_spec(robot: str) -> tuple[mujoco.MjSpec, QuadrupedParameters, str]:
    kind, _, rest = robot.partition(":")
    if robot == "default":
        from factory.envs.robots import kelpie

        return mujoco.MjSpec.from_file(str(kelpie.MJCF)), kelpie.PARAMETERS, "kelpie"
    if kind == "menagerie" and rest:
        return _open_menagerie(rest)
    if kind == "file" and rest:
        path = Path(rest).expanduser()
        if not path.is_file() or path.suffix not in (".xml", ".mjcf", ".urdf"):
            raise ValueError(
                f"robot={robot}: no such file; give the path of an MJCF (.xml) or URDF (.urdf) file"
            )
        try:
            robot_file.check(path)
        except ValueError as error:
            raise ValueError(f"robot={robot}: {error}") from error
        return _read(path, robot), QuadrupedParameters(), path.stem
    if robot in ROBOTS:
        loaded = ROBOTS[robot]()
        source, parameters = loaded if isinstance(loaded, tuple) else (loaded, QuadrupedParameters())
        if isinstance(source, mujoco.MjSpec):
            spec = source
        else:
            spec = _read(Path(source), robot)
        return spec, parameters, robot
    choices = ", ".join(("default", "menagerie:<name>", *sorted(ROBOTS)))
    raise ValueError(f"robot={robot}: unknown; choose {choices} or file:<path.xml>")


def _open_menagerie(name: str) -> tuple[mujoco.MjSpec, QuadrupedParameters, str]:
    from factory.envs.robots.menagerie import QUADRUPEDS, robot_file

    if name not in QUADRUPEDS:
        raise ValueError(
            f"robot=menagerie:{name}: unknown quadruped; choose one of {', '.join(sorted(QUADRUPEDS))}"
        )
    entry, parameters = QUADRUPEDS[name]
    return _read(robot_file(name, entry), f"menagerie:{name}"), parameters, name


def _read(path: Path, robot: str) -> mujoco.MjSpec:
    try:
        return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise ValueError(
            f"robot={robot}: MuJoCo cannot read {path}: {' '.join(str(error).split())}"
        ) from error


def _prepare(spec: mujoco.MjSpec, parameters: QuadrupedParameters, robot: str) -> None:
    """Check the robot, give it position control and foot-only contacts, and put it on flat ground."""
    _check(spec, parameters, robot)
    for geom in spec.geoms:
        is_foot = geom.name in parameters.feet
        # Only feet touch the ground: contacts of shins and trunk cost time and teach little.
        geom.contype = 0
        geom.conaffinity = int(is_foot)
        if is_foot:
            geom.condim = 3
            # The friction of the feet counts, which differs between environments.
            geom.priority = 1
    for joint in spec.joints:
        if joint.type == mujoco.mjtJoint.mjJNT_HINGE:
            joint.damping = np.broadcast_to(parameters.damping, np.shape(joint.damping)).copy()
            joint.armature = parameters.armature
            joint.frictionloss = 0.0
    for actuator in spec.actuators:
        # PD control: the gain here, the damping in the joint, where the integrator treats it implicitly.
        actuator.set_to_position(kp=parameters.kp)
        actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
        joint = spec.joint(actuator.target)
        # A torque motor's control range is its limit of force, which must outlive the change of its meaning.
        if not actuator.forcelimited and not joint.actfrclimited and np.ptp(actuator.ctrlrange) > 0:
            actuator.forcerange = actuator.ctrlrange
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    # Implicit damping is stable at 4 ms; a few solver iterations suffice for four point contacts.
    option = spec.option
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.impratio = 1.0
    option.iterations = 10
    option.ls_iterations = 20
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
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.74, 0.86],
        rgb2=[0.94, 0.95, 0.97],
        width=64,
        height=64,
    )
    spec.add_texture(
        name="ground",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.82, 0.84],
        rgb2=[0.70, 0.72, 0.75],
        width=64,
        height=64,
    )
    material = spec.add_material(name="ground", texuniform=True, texrepeat=[2, 2])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    world = spec.worldbody
    world.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 0.05],
        material="ground",
        contype=1,
        conaffinity=0,
    )
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0, 0, 4],
        dir=[0.4, 0.5, -1],
        diffuse=[0.8, 0.8, 0.8],
    )


def _describe(name: str, model: mujoco.MjModel, parameters: QuadrupedParameters) -> Quadruped:
    joints = model.actuator_trnid[:, 0]
    home_qpos = model.key("home").qpos.copy()
    joint_qpos = model.jnt_qposadr[joints]
    feet = np.array([model.geom(foot).id for foot in parameters.feet])

    # Where legs begin and end at home, from kinematics: foot -> calf -> thigh -> hip.
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    mujoco.mj_kinematics(model, data)
    chains = [_chain(model, foot) for foot in feet]
    bodies = model.jnt_bodyid[joints]
    knees = np.array([np.flatnonzero(bodies == chain[0])[0] for chain in chains])
    thighs = np.array([data.xpos[chain[1]] for chain in chains])
    return Quadruped(
        name=name,
        model=model,
        parameters=parameters,
        home_qpos=home_qpos,
        home_ctrl=home_qpos[joint_qpos],
        joint_qpos=joint_qpos,
        joint_qvel=model.jnt_dofadr[joints],
        hip_actuators=np.flatnonzero(np.abs(model.jnt_axis[joints, 0]) > 0.9),
        knee_actuators=knees,
        leg_of_actuator=np.array(
            [next(i for i, chain in enumerate(chains) if body in chain) for body in bodies]
        ),
        hip_xy_m=(thighs - data.xpos[model.body(parameters.base).id])[:, :2],
        leg_length_m=float(np.linalg.norm(data.geom_xpos[feet[0]] - thighs[0])),
        foot_geoms=feet,
        foot_radius_m=float(model.geom_size[feet[0], 0]),
        base_body=model.body(parameters.base).id,
    )


def _chain(model: mujoco.MjModel, geom: int) -> list[int]:
    """Return the bodies from the one that carries `geom` up to the base, which is not in it."""
    body = int(model.geom_bodyid[geom])
    chain = []
    while model.body_parentid[body] != 0:
        chain.append(body)
        body = int(model.body_parentid[body])
    return chain


def column_index(addresses: np.ndarray, device: torch.device) -> slice | torch.Tensor:
    """Return an index of columns: a slice, which copies nothing, if they follow one another.

    Otherwise a tensor on `device`: one elsewhere would be copied at every use, which no CUDA graph can hold.
    """
    first = int(addresses[0])
    if np.array_equal(addresses, np.arange(first, first + len(addresses))):
        return slice(first, first + len(addresses))
    return torch.as_tensor(addresses, device=device).long()
