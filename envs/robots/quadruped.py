"""A four-legged robot with twelve position-controlled joints, described for a task."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import torch

from factory.envs.robots.legs import Legs, find_foot, find_legs, pose
from factory.envs.robots.sources import QuadrupedParameters
from factory.envs.robots.stance import find_stance
from factory.envs.terms.symmetry import Mirror
from factory.validation import require


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
    joint_axes: np.ndarray
    """Axes of the actuated joints at home, in the trunk's frame. Shape: (12, 3)."""
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
    notes: tuple[str, ...] = ()
    """Lines that say what was inferred from the model."""

    def mirror_joints(self) -> Mirror:
        """Return what joint angles in actuator order look like in the sagittal plane's mirror.

        Left and right legs change places. A rotation about the y axis keeps its sense, one about x or z turns
        it around; axes that are already mirrored in the model do so by themselves.
        """
        # Roles in a leg: 0 hip, 1 thigh, 2 knee. Legs: 0 FL, 1 FR, 2 RL, 3 RR, so `^ 1` is the other side.
        roles = np.where(np.isin(np.arange(12), self.hip_actuators), 0, 1)
        roles[self.knee_actuators] = 2
        # The joint on the other side with the same role.
        index = np.array(
            [
                next(j for j in range(12) if roles[j] == roles[i] and self.leg_of_actuator[j] == leg ^ 1)
                for i, leg in enumerate(self.leg_of_actuator)
            ]
        )
        # A rotation is a pseudovector: the mirror y -> -y keeps its y component and turns the others.
        reflected = self.joint_axes[index] * np.array([-1.0, 1.0, -1.0])
        sign = np.sign((self.joint_axes * reflected).sum(-1))
        return Mirror(torch.from_numpy(index), torch.from_numpy(sign).float())

    def check_payload(self, least_kg: float) -> None:
        """Check that the base keeps a mass with the smallest payload.

        Raises:
            ValueError: it would have none, which simulates anything.
        """
        mass_kg = float(self.model.body_mass[self.base_body])
        remedy = f"the trunk of {self.name} has only {mass_kg:.2f} kg to lose; choose a higher lower end"
        require(mass_kg + least_kg > 0.0, "task.randomization.payload_kg[0]", least_kg, remedy)

    def hip_levers(self) -> np.ndarray:
        """Return the planar velocity of each hip per unit of yaw rate: z x r = (-y, x). Shape: (4, 2) [m]."""
        return np.stack([-self.hip_xy_m[:, 1], self.hip_xy_m[:, 0]], -1)

    def sweep_joints(self) -> np.ndarray:
        """Return the joint turns that move a foot by its leg's length forward and left. Shape: (12, 2) [rad].

        A hanging leg goes back when it turns about y, and left when it turns about x.
        """
        turns = np.stack([-self.joint_axes[:, 1], self.joint_axes[:, 0]], -1)
        turns[self.knee_actuators] = 0.0
        return turns

    def lift_offsets(self, height_m: float) -> np.ndarray:
        """Return the joint offsets that raise every foot by `height_m` under its hip. Shape: (12,) [rad].

        Newton's method on the position f of each foot, along its way up: J dq = target - f, with the 3 x 3
        Jacobian J of f in the leg's own joints.

        Raises:
            ValueError: the legs cannot fold as far.
        """
        data = pose(self.model, self.home_qpos)
        jacobian = np.zeros((3, self.model.nv))
        feet = data.geom_xpos[self.foot_geoms]
        columns = [self.joint_qvel[self.leg_of_actuator == leg] for leg in range(4)]
        addresses = [self.joint_qpos[self.leg_of_actuator == leg] for leg in range(4)]
        for raised_m in np.linspace(0.0, height_m, 21)[1:]:
            target = feet + np.array([0.0, 0.0, raised_m])
            for _ in range(6):
                error = target - data.geom_xpos[self.foot_geoms]
                for leg, geom in enumerate(self.foot_geoms):
                    mujoco.mj_jacGeom(self.model, data, jacobian, None, geom)
                    solved, *_ = np.linalg.lstsq(jacobian[:, columns[leg]], error[leg], rcond=1e-6)
                    data.qpos[addresses[leg]] += solved
                mujoco.mj_kinematics(self.model, data)
                mujoco.mj_comPos(self.model, data)
            lost_m = np.abs(target - data.geom_xpos[self.foot_geoms]).max()
            # Beyond nine tenths of the leg's length the foot would be at its hip.
            if lost_m > 1e-3 or raised_m > 0.9 * self.leg_length_m:
                raise ValueError(
                    f"task.swing_height_m={height_m:g}: the legs of {self.name} cannot lift their feet by"
                    f" {raised_m:.3f} m from the home pose; choose less"
                )
        offsets = data.qpos[self.joint_qpos] - self.home_ctrl
        # Rounding of the solver must not move joints that stay.
        offsets[np.abs(offsets) < 1e-9] = 0.0
        return offsets


def describe(name: str, model: mujoco.MjModel, parameters: QuadrupedParameters) -> Quadruped:
    """Find the parts of a robot in its compiled scene, which is taken as it is.

    Raises:
        ValueError: it is no quadruped that the task can move; the message names the part.
    """
    legs = find_legs(model)
    home_qpos = find_stance(model, legs).qpos
    joints = model.actuator_trnid[:, 0]
    joint_qpos = model.jnt_qposadr[joints]
    # Actuators by leg and role, (4, 3), and the leg of each actuator.
    actuator_of = np.argsort(joints)[np.searchsorted(np.sort(joints), legs.joints)]
    leg_of_actuator = np.empty(12, dtype=np.int64)
    leg_of_actuator[actuator_of] = np.arange(4)[:, None]

    data = pose(model, home_qpos)
    feet = np.array([find_foot(model, data, leg).geom for leg in legs.joints])
    thighs = data.xanchor[legs.joints[:, 1]]
    robot = Quadruped(
        name=name,
        model=model,
        parameters=parameters,
        home_qpos=home_qpos,
        home_ctrl=home_qpos[joint_qpos],
        joint_qpos=joint_qpos,
        joint_qvel=model.jnt_dofadr[joints],
        joint_axes=_joint_axes(model, data, legs)[joints],
        hip_actuators=np.sort(actuator_of[:, 0]),
        knee_actuators=actuator_of[:, 2],
        leg_of_actuator=leg_of_actuator,
        hip_xy_m=(thighs - data.xpos[legs.free_body])[:, :2],
        leg_length_m=float(np.linalg.norm(data.geom_xpos[feet[0]] - thighs[0])),
        foot_geoms=feet,
        foot_radius_m=float(model.geom_size[feet[0], 0]),
        base_body=legs.base_body,
    )
    _check_mirror(robot)
    return robot


def _joint_axes(model: mujoco.MjModel, data: mujoco.MjData, legs: Legs) -> np.ndarray:
    """Return the axes of all joints in the base's frame, which is the world's at home. Shape: (njnt, 3).

    Raises:
        ValueError: a leg's joints do not turn as hip, thigh and knee do.
    """
    axes = data.xaxis.copy()
    # Frames of CAD programs are turned by quaternions of six digits.
    axes[np.abs(axes) < 1e-6] = 0.0
    for leg in legs.joints:
        for joint, axis, role in zip(leg, (0, 1, 1), ("hip", "thigh", "knee"), strict=True):
            if abs(axes[joint, axis]) < 0.7:
                turns = " ".join(f"{component:.2f}" for component in axes[joint])
                part = f"joint {model.joint(joint).name}, the {role} of its leg,"
                raise ValueError(
                    f"{part} turns about ({turns}) in the base's frame; hips must turn about x (forward),"
                    " thighs and knees about y (left)"
                )
    return axes


def _check_mirror(robot: Quadruped) -> None:
    """Check that mirrored joint angles mirror the feet, on which gait and policy rely.

    Raises:
        ValueError: a foot is elsewhere.
    """
    # Any turns will do that differ between all joints.
    offsets = 0.2 * np.cos(np.arange(12.0))
    mirrored = robot.mirror_joints()(torch.from_numpy(offsets)).numpy()
    feet = []
    for turned in (offsets, mirrored):
        qpos = robot.home_qpos.copy()
        qpos[robot.joint_qpos] += turned
        feet.append(pose(robot.model, qpos).geom_xpos[robot.foot_geoms])
    reflected = feet[1][[1, 0, 3, 2]] * np.array([1.0, -1.0, 1.0])
    errors_m = np.linalg.norm(feet[0] - reflected, axis=-1)
    if errors_m.max() > 0.1 * robot.leg_length_m:
        left, right = ("FL", "FR") if errors_m.argmax() < 2 else ("RL", "RR")
        raise ValueError(
            f"its legs {left} and {right} are no mirror images of each other: their feet are"
            f" {100 * errors_m.max():.0f} cm apart from it"
        )


def column_index(addresses: np.ndarray, device: torch.device) -> slice | torch.Tensor:
    """Return an index of columns: a slice, which copies nothing, if they follow one another.

    Otherwise a tensor on `device`: one elsewhere would be copied at every use, which no CUDA graph can hold.
    """
    first = int(addresses[0])
    if np.array_equal(addresses, np.arange(first, first + len(addresses))):
        return slice(first, first + len(addresses))
    return torch.as_tensor(addresses, device=device).long()
