"""Position control of every leg joint within the torque limits that a file gives, however it gives them."""

from __future__ import annotations

import mujoco
import numpy as np

from factory.envs.robots.sources import QuadrupedParameters

_JOINT = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
_PLAIN_GAINS = (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE, mujoco.mjtGain.mjGAIN_PID)
_PLAIN_BIASES = (mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE)


def check_actuators(spec: mujoco.MjSpec) -> None:
    """Check that every hinge has one actuator of a kind that position control can replace.

    Raises:
        ValueError: an actuator acts on something else or is no motor or servo, or a joint lacks its own.
    """
    for place, actuator in enumerate(spec.actuators):
        name = actuator.name or f"number {place}"
        if actuator.trntype not in _JOINT:
            kind = actuator.trntype.name.removeprefix("mjTRN_").lower()
            raise ValueError(f"actuator {name} acts on a {kind}; the task needs it on a joint")
        for kind, plain in ((actuator.gaintype, _PLAIN_GAINS), (actuator.biastype, _PLAIN_BIASES)):
            if kind not in plain:
                listed = kind.name.partition("_")[2].lower()
                raise ValueError(f"actuator {name} is of type {listed}; the task needs a motor or a servo")
        if actuator.gear[0] == 0.0:
            raise ValueError(f"actuator {name} has gear 0, so it moves nothing")

    # A joint without an actuator would swing freely, and two would fight.
    targets = [actuator.target for actuator in spec.actuators]
    hinges = [joint.name for joint in spec.joints if joint.type == mujoco.mjtJoint.mjJNT_HINGE]
    for count, complaint in ((0, "no actuator"), (2, "several actuators")):
        joints = [name for name in hinges if min(targets.count(name), 2) == count]
        if joints:
            found = f"12 joint actuators are needed, one a joint (found {len(targets)})"
            raise ValueError(f"{found}: {', '.join(joints)} with {complaint}")


def add_actuators(spec: mujoco.MjSpec) -> None:
    """Give every hinge an actuator, in the order of the joints; `set_position_control` makes it a servo."""
    for joint in spec.joints:
        if joint.type == mujoco.mjtJoint.mjJNT_HINGE:
            spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)


def torque_limits(model: mujoco.MjModel) -> np.ndarray:
    """Return the least and greatest torque of every actuator at its joint. Shape: (nu, 2) [N m].

    An actuator's torque is gear * force. Its force is limited by `forcerange`, and that of a motor, gain *
    ctrl, by `ctrlrange` too, which is an angle or a speed for servos. A joint's own limit,
    `actuatorfrcrange`, is MuJoCo's to apply and counts here for display only.

    Raises:
        ValueError: a limit leaves no torque to one side.
    """
    limits = np.tile([-np.inf, np.inf], (model.nu, 1))
    # force = gain * ctrl + bias: without bias a motor, with one a servo.
    is_motor = (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED) & (
        model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE
    )
    is_direct = model.actuator_dyntype != mujoco.mjtDyn.mjDYN_INTEGRATOR
    for actuator in range(model.nu):
        forces = []
        if model.actuator_forcelimited[actuator]:
            forces.append(model.actuator_forcerange[actuator])
        if model.actuator_ctrllimited[actuator] and is_motor[actuator] and is_direct[actuator]:
            forces.append(model.actuator_gainprm[actuator, 0] * model.actuator_ctrlrange[actuator])
        for force in forces:
            # A negative gear turns the range around.
            low, high = np.sort(model.actuator_gear[actuator, 0] * force)
            limits[actuator] = max(limits[actuator, 0], low), min(limits[actuator, 1], high)
        if not limits[actuator, 0] < 0.0 < limits[actuator, 1]:
            name = model.actuator(actuator).name or f"number {actuator}"
            low, high = limits[actuator]
            raise ValueError(
                f"actuator {name} has torques from {low:g} to {high:g} N m; it must be able to push both ways"
            )
    return limits


def joint_torque_limits(model: mujoco.MjModel) -> np.ndarray:
    """Return the torque every actuated joint can give, its own limit included. Shape: (nu,) [N m]."""
    own = torque_limits(model)
    joints = model.actuator_trnid[:, 0]
    ranges = np.where(model.jnt_actfrclimited[joints, None], model.jnt_actfrcrange[joints], [-np.inf, np.inf])
    return np.minimum(np.abs(own).min(-1), np.abs(ranges).min(-1))


def set_position_control(
    spec: mujoco.MjSpec, limits: np.ndarray, parameters: QuadrupedParameters, mass_kg: float
) -> float:
    """Turn all actuators into position servos within their limits; return the position gain [N m/rad].

    Args:
        spec: the robot, with one actuator a hinge.
        limits: torques of every actuator. Shape: (nu, 2) [N m].
        parameters: gains, as far as they are given.
        mass_kg: mass of the robot, which sets the gains otherwise.
    """
    # A stance needs torques in proportion to weight; the embedded dog's gains give the other proportions.
    kp = 6.5 * mass_kg if parameters.kp is None else parameters.kp
    damping = kp / 100.0 if parameters.damping is None else parameters.damping
    for joint in spec.joints:
        if joint.type != mujoco.mjtJoint.mjJNT_HINGE:
            continue
        joint.damping = np.broadcast_to(damping, np.shape(joint.damping)).copy()
        # A stiff servo on a light rotor is unstable at the task's time step.
        least_armature = kp / 8000.0
        joint.armature = max(joint.armature, least_armature)
        if parameters.armature is not None:
            joint.armature = parameters.armature
        joint.frictionloss = 0.0
    for actuator, (low, high) in zip(spec.actuators, limits, strict=True):
        # A servo of the file keeps its bias and its filter otherwise.
        actuator.biasprm = np.zeros_like(actuator.biasprm)
        actuator.gainprm = np.zeros_like(actuator.gainprm)
        actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
        actuator.actlimited = mujoco.mjtLimited.mjLIMITED_FALSE
        # PD control: the gain here, the damping in the joint, where the integrator treats it implicitly.
        actuator.set_to_position(kp=kp)
        if parameters.servo_damping:
            actuator.biasprm[2] = -parameters.servo_damping
        actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
        # Targets are joint angles; the limits below are torques at the joint already.
        actuator.gear = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        if np.isfinite([low, high]).all():
            actuator.forcerange = [low, high]
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    return kp
