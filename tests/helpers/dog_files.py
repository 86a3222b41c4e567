"""The embedded dog written as other people write their robots, and robots that no one could walk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import mujoco
import numpy as np

from factory.envs.robots import kelpie

PLAIN = kelpie.MJCF.read_text().replace('name="FL_foot" class="foot"', 'name="FL" class="foot"')
LEGS = ("FL", "FR", "RL", "RR")


def _negative_knees() -> str:
    """Knees that turn about -y, with angles of the other sign."""
    text = PLAIN.replace(
        'class="calf"><joint axis="0 1 0" range="-2.7 -0.7"',
        'class="calf"><joint axis="0 -1 0" range="0.7 2.7"',
    )
    return text.replace("0.9 -1.8", "0.9 1.8")


def _degrees() -> str:
    """Angles in degrees, as MuJoCo has them by default; keyframes stay in radians."""

    def converted(match: re.Match[str]) -> str:
        angles = (f"{np.degrees(float(angle)):.10f}" for angle in match[1].split())
        return f' range="{" ".join(angles)}"'

    text = PLAIN.replace('<compiler angle="radian"', "<compiler")
    return re.sub(r' range="([^"]*)"', converted, text)


def _about_z() -> str:
    """Bodies turned so that every joint turns about its z axis, as CAD programs export them."""
    spec = mujoco.MjSpec.from_string(PLAIN)
    spec.compile()
    # Writing and reading resolves `fromto`, so that every element has a position and a quaternion.
    spec = mujoco.MjSpec.from_string(spec.to_xml())
    for body in list(spec.bodies):
        if not body.joints or body.joints[0].type != mujoco.mjtJoint.mjJNT_HINGE:
            continue
        joint = body.joints[0]
        turn = np.zeros(4)
        mujoco.mju_quatZ2Vec(turn, joint.axis)
        joint.axis = [0.0, 0.0, 1.0]
        back = turn * [1, -1, -1, -1]
        body.quat = _product(body.quat, turn)
        body.ipos = _rotated(back, body.ipos)
        body.iquat = _product(back, body.iquat)
        for part in (*body.geoms, *body.sites, *body.bodies):
            part.pos = _rotated(back, part.pos)
            part.quat = _product(back, part.quat)
    spec.compile()
    return spec.to_xml()


def _product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    result = np.zeros(4)
    mujoco.mju_mulQuat(result, np.asarray(first, float), np.asarray(second, float))
    return result


def _rotated(quat: np.ndarray, vector: np.ndarray) -> np.ndarray:
    result = np.zeros(3)
    mujoco.mju_rotVecQuat(result, np.asarray(vector, float), np.asarray(quat, float))
    return result


def _feet_on_bodies() -> str:
    """Feet on bodies of their own that are fixed to the calves, without mass of their own."""
    text = PLAIN
    for leg in LEGS:
        foot = re.search(rf'<geom name="{leg}(_foot)?" class="foot"/>', text)
        assert foot
        massless = foot[0].replace("/>", ' mass="0"/>')
        text = text.replace(foot[0], f'<body name="{leg}_link">{massless}</body>')
    return text


def _actuators(element: str, joint_limits: str = "") -> str:
    """Give the dog other actuators; `joint_limits` replaces the limits of its joints."""
    text = re.sub(r"<position kp=[^>]*/>", element, PLAIN)
    text = text.replace("<position class", f"<{re.findall('[a-z]+', element)[0]} class")
    return re.sub(r' actuatorfrcrange="[^"]*"', joint_limits, text)


EQUAL: dict[str, Callable[[], str]] = {
    "knees about -y": _negative_knees,
    "degrees": _degrees,
    "joints about z": _about_z,
    "feet on bodies": _feet_on_bodies,
    "other base": lambda: PLAIN.replace('body name="trunk"', 'body name="base"'),
    "no foot names": lambda: re.sub(
        r'<geom name="[FR][LR](_foot)?" class="foot"', '<geom class="foot"', PLAIN
    ),
    "keyframe stand": lambda: PLAIN.replace('key name="home"', 'key name="stand"'),
    "keyframe without a name": lambda: PLAIN.replace('key name="home"', "key"),
    "second keyframe": lambda: PLAIN.replace(
        '<key name="home"',
        '<key name="lying" qpos="0 0 .1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"/><key name="stand"',
    ),
    "keyframe turned": lambda: PLAIN.replace("0 0 0.2727 1 0 0 0", "3 1 0.2727 1.4 0 0 1.4"),
    "keyframe in the air": lambda: PLAIN.replace("0 0 0.2727 1 0 0 0", "0 0 0.9 1 0 0 0"),
    "floor ground": lambda: PLAIN.replace(
        "<worldbody>", '<worldbody><geom name="ground" type="plane" size="0 0 .05"/>'
    ),
    "floor floor": lambda: PLAIN.replace(
        "<worldbody>", '<worldbody><geom name="floor" type="plane" size="0 0 .05"/>'
    ),
    "table": lambda: PLAIN.replace("<worldbody>", '<worldbody><body><geom size=".1"/></body>'),
    "geom of the robot named ground": lambda: PLAIN.replace(
        '<geom class="shell" type="box" pos="0 0 0.006"',
        '<geom name="ground" class="shell" type="box" pos="0 0 0.006"',
    ),
    "materials ground and sky": lambda: PLAIN.replace(
        "<asset>",
        '<asset><material name="ground"/>'
        '<texture name="ground" type="2d" builtin="flat" width="8" height="8"/>'
        '<texture name="sky" type="2d" builtin="flat" width="8" height="8"/>',
    ),
    "enabled flags": lambda: PLAIN.replace(
        "<compiler", '<option><flag override="enable"/></option><compiler'
    ),
}
"""Ways to write the same robot -> its file."""

TORQUES: dict[str, tuple[str, tuple[float, float, float]]] = {
    "motor": (_actuators('<motor ctrlrange="-20 20"/>'), (20, 20, 20)),
    "motor with limits of its joints": (
        _actuators('<motor ctrlrange="-50 50"/>', ' actuatorfrcrange="-33 33"'),
        (33, 33, 33),
    ),
    "motor with gear": (_actuators('<motor ctrlrange="-1 1" gear="33"/>'), (33, 33, 33)),
    "motor with negative gear": (_actuators('<motor ctrlrange="-1 1.5" gear="-33"/>'), (33, 33, 33)),
    "motor with gain": (_actuators('<general gainprm="4" ctrlrange="-5 5"/>'), (20, 20, 20)),
    "motor with two limits": (
        _actuators('<motor ctrlrange="-1 1" forcerange="-.8 .8" gear="25"/>'),
        (20, 20, 20),
    ),
    "servo with force limit": (
        _actuators('<position kp="9" ctrlrange="-3 3" forcerange="-21 21"/>'),
        (21, 21, 21),
    ),
    "servo with gear": (_actuators('<position kp="9" forcerange="-7 7" gear="3"/>'), (21, 21, 21)),
    "servo with filter": (_actuators('<position kp="9" timeconst=".1" forcerange="-21 21"/>'), (21, 21, 21)),
    "velocity servo": (_actuators('<velocity kv="9" ctrlrange="-9 9" forcerange="-21 21"/>'), (21, 21, 21)),
    "servo with limits of its joints": (PLAIN, (33, 33, 40)),
}
"""Kinds of actuators -> a file, and what a leg's hip, thigh and knee may give [N m]."""

REFUSED: dict[str, tuple[str, str]] = {
    "no gravity": (PLAIN.replace("<compiler", '<option gravity="0 0 0"/><compiler'), 'gravity="0 0 0"'),
    "gravity along y": (
        PLAIN.replace("<compiler", '<option gravity="0 -9.81 0"/><compiler'),
        "down the z axis",
    ),
    **{
        f"{flag} off": (
            PLAIN.replace("<compiler", f'<option><flag {flag}="disable"/></option><compiler'),
            f'<flag {flag}="disable"/>',
        )
        for flag in ("contact", "constraint", "gravity", "actuation", "damper", "spring", "limit")
    },
    "actuator on a site": (
        PLAIN.replace('name="FL_hip" joint="FL_hip"', 'name="FL_hip" site="imu"'),
        "actuator FL_hip acts on a site",
    ),
    "muscles": (_actuators("<muscle/>"), "actuator FL_hip is of type muscle"),
    "slide joints": (
        PLAIN.replace('<joint axis="0 1 0" range="-2.7', '<joint type="slide" axis="0 0 1" range="-2.7'),
        "joint FL_calf is a slide joint",
    ),
    "eight actuators": (
        re.sub(r'<position class="kelpie" name="\w\w_hip".*?/>', "", PLAIN),
        "FL_hip, FR_hip, RL_hip, RR_hip with no actuator",
    ),
    "two actuators on a joint": (
        PLAIN.replace("</actuator>", '<motor joint="RL_calf"/></actuator>'),
        "RL_calf with several actuators",
    ),
    "straight legs": (
        PLAIN.replace("0.9 -1.8", "0 0"),
        "keyframe home cannot stand: joint FL_calf is at 0.00 rad, its range is -2.70 .. -0.70 rad",
    ),
    "straight legs without ranges": (
        re.sub(r' range="[^"]*"', "", PLAIN).replace("0.9 -1.8", "0 0"),
        "leg FL is straight: bend its knee, joint FL_calf",
    ),
    "home on its back": (
        PLAIN.replace("0 0 0.2727 1 0 0 0", "0 0 0.2727 0 1 0 0"),
        "the z axis of body trunk does not point up",
    ),
    "ball beside it": (
        PLAIN.replace("</worldbody>", '<body name="ball"><freejoint/><geom size=".1"/></body></worldbody>')
        .replace("<keyframe>", "<!--")
        .replace("</keyframe>", "-->"),
        "several bodies have a free joint (trunk, ball)",
    ),
    "weak motors": (_actuators('<motor ctrlrange="-1 1"/>'), "it falls within 2 s of holding its home pose"),
    "motors that push one way": (
        _actuators('<motor ctrlrange="0 20"/>'),
        "it must be able to push both ways",
    ),
    "fixed base": (
        PLAIN.replace('<freejoint name="root"/>', "").replace("0 0 0.2727 1 0 0 0", ""),
        "<freejoint/>",
    ),
    "legs as an insect's": (
        PLAIN.replace('class="hip"><joint axis="1 0 0"', 'class="hip"><joint axis="0 0 1"'),
        "joint FL_hip, the hip of its leg, turns about",
    ),
    "forward along y": (
        PLAIN.replace('axis="1 0 0"', 'axis="0 2 0"').replace('axis="0 1 0"', 'axis="1 0 0"'),
        "turns about",
    ),
    "legs that are no mirror images": (
        PLAIN.replace('<body name="FR_thigh" pos="0 -0.085 0">', '<body name="FR_thigh" pos="0 -0.16 0">'),
        "its legs FL and FR are no mirror images",
    ),
    "short leg": (
        PLAIN.replace('<body name="FR_calf" pos="0 0 -0.2">', '<body name="FR_calf" pos="0 0 -0.12">'),
        "the foot of leg FR is 0.050 m above the lowest",
    ),
    "broken": (PLAIN.replace('type="box"', 'type="bix"', 1), "Element 'geom', line 36"),
}
"""Robots on which training would make no sense -> a file, and the words of the message that name the part."""


def urdf(*, first: str = "", effort: float = 33.0, knee: float = 1.0) -> str:
    """Return a dog of four links a leg; `first` is XML before the trunk."""

    def link(name: str, mass_kg: float, shape: str = "") -> str:
        inertia = 'ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"'
        weight = f'<inertial><mass value="{mass_kg}"/><inertia {inertia}/></inertial>' if mass_kg else ""
        return f'<link name="{name}">{weight}{shape}</link>'

    def joint(parent: str, child: str, origin: str, axis: str = "", limit: float = 1.0) -> str:
        turns = (
            f'<axis xyz="{axis}"/><limit lower="-{limit}" upper="{limit}" effort="{effort}" velocity="20"/>'
        )
        kind = f'type="revolute">{turns}' if axis else 'type="fixed">'
        ends = f'<parent link="{parent}"/><child link="{child}"/><origin xyz="{origin}"/>'
        return f'<joint name="{child}_joint" {kind}{ends}</joint>'

    def leg(name: str) -> Iterator[str]:
        x = 0.2 if name[0] == "F" else -0.2
        y = 1 if name[1] == "L" else -1
        ball = '<collision><geometry><sphere radius="0.02"/></geometry></collision>'
        yield from (link(f"{name}_{part}", 0.5) for part in ("hip", "thigh", "calf"))
        yield link(name, 0.0, ball)
        yield joint("trunk", f"{name}_hip", f"{x} {0.05 * y} 0", "1 0 0")
        yield joint(f"{name}_hip", f"{name}_thigh", f"0 {0.08 * y} 0", "0 1 0")
        yield joint(f"{name}_thigh", f"{name}_calf", "0 0 -0.2", "0 1 0", knee)
        yield joint(f"{name}_calf", name, "0 0 -0.2")

    box = '<collision><geometry><box size="0.3 0.1 0.1"/></geometry></collision>'
    legs = "".join(part for name in LEGS for part in leg(name))
    return f'<robot name="dog">{first}{link("trunk", 5.0, box)}{legs}</robot>'
