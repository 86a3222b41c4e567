"""Files and registrations that `robot=` names, opened as specifications that can still be edited."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import mujoco

from factory.envs.robots import robot_file
from factory.registry import ROBOTS

_SUFFIXES = (".xml", ".mjcf", ".urdf")


@dataclass(kw_only=True)
class QuadrupedParameters:
    """Properties of a robot that its MJCF does not contain; None takes them from mass and file."""

    kp: float | None = None
    """Position gain of every joint [N m/rad]; None gives 6.5 N m/rad per kilogram of the robot."""
    damping: float | None = None
    """Joint damping, the derivative gain [N m s/rad]; None gives a hundredth of `kp`."""
    servo_damping: float = 0.0
    """Derivative gain of the servos themselves, beside the joints' damping [N m s/rad]."""
    armature: float | None = None
    """Rotor inertia reflected to the joint [kg m^2]; None takes that of the file, at least kp / 8000."""
    action_scale: float = 0.8
    """Joint angle commanded by an action of 1, relative to the home pose [rad]."""


@dataclass(frozen=True, kw_only=True)
class RobotSource:
    """A robot as its file or registration gives it."""

    name: str
    spec: mujoco.MjSpec
    parameters: QuadrupedParameters


def open_robot(robot: str) -> RobotSource:
    """Open `default`, `menagerie:<name>`, `file:<path>` or a registered robot.

    Raises:
        ValueError: the robot is unknown or cannot be read.
    """
    # A registered name has no colon.
    kind, _, rest = robot.partition(":")
    if robot == "default":
        from factory.envs.robots import kelpie

        return RobotSource(name="kelpie", spec=read(kelpie.MJCF), parameters=kelpie.PARAMETERS)
    if kind == "menagerie" and rest:
        return _open_menagerie(rest)
    if kind == "file" and rest:
        path = Path(rest).expanduser()
        if not os.path.isfile(path) or path.suffix not in _SUFFIXES:
            raise ValueError("no such file; give the path of an MJCF (.xml) or URDF (.urdf) file")
        robot_file.check(path)
        return RobotSource(name=path.stem, spec=read(path), parameters=QuadrupedParameters())
    if robot in ROBOTS:
        return _open_registered(robot)
    choices = ", ".join(("default", "menagerie:<name>", *sorted(ROBOTS)))
    raise ValueError(f"unknown; choose {choices} or file:<path.xml>")


def read(path: Path) -> mujoco.MjSpec:
    """Return the specification in an MJCF or URDF file.

    Raises:
        ValueError: MuJoCo cannot read it; the message has MuJoCo's own words, which name element and line.
    """
    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise ValueError(f"MuJoCo cannot read {path}: {' '.join(str(error).split())}") from error
    if path.suffix == ".urdf":
        # MuJoCo merges links without a joint into their parents, and the first link into the world.
        spec.compiler.fusestatic = False
        return _without_empty_root(spec)
    return spec


def _without_empty_root(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """Return a URDF robot without a first link that is a mere frame, often one on the ground.

    Height and attitude of the robot are those of the first link, which must be the trunk.
    """
    while len(spec.worldbody.bodies) == 1:
        root = spec.worldbody.bodies[0]
        is_empty = not (root.geoms or root.joints or root.mass)
        if not is_empty or len(root.bodies) != 1 or root.bodies[0].joints:
            break
        trunk = mujoco.MjSpec()
        trunk.compiler.degree = spec.compiler.degree
        trunk.compiler.balanceinertia = spec.compiler.balanceinertia
        trunk.compiler.fusestatic = False
        trunk.meshdir = spec.meshdir
        trunk.modelfiledir = spec.modelfiledir
        trunk.option.gravity = spec.option.gravity
        trunk.option.disableflags = spec.option.disableflags
        trunk.worldbody.add_frame().attach_body(root.bodies[0], "", "")
        spec = trunk
    return spec


def _open_menagerie(name: str) -> RobotSource:
    from factory.envs.robots import menagerie

    if name not in menagerie.QUADRUPEDS:
        raise ValueError(f"unknown quadruped; choose one of {', '.join(sorted(menagerie.QUADRUPEDS))}")
    entry, parameters = menagerie.QUADRUPEDS[name]
    return RobotSource(name=name, spec=read(menagerie.robot_file(name, entry)), parameters=parameters)


def _open_registered(robot: str) -> RobotSource:
    loaded = ROBOTS[robot]()
    source, parameters = loaded if isinstance(loaded, tuple) else (loaded, QuadrupedParameters())
    if isinstance(source, mujoco.MjSpec):
        # A loader may return the same object every time, and ours is edited.
        spec = source.copy()
    else:
        spec = read(Path(source))
    return RobotSource(name=robot, spec=spec, parameters=parameters)
