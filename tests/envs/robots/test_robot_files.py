"""Robots of files: the same robot written in many ways is the same, and nothing senseless is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dog_files
import mujoco
import numpy as np
import pytest
import torch

from factory.envs.robots.actuators import joint_torque_limits
from factory.envs.robots.legs import pose
from factory.envs.robots.loading import load_quadruped
from factory.envs.robots.quadruped import Quadruped
from factory.envs.tasks.quadruped_velocity import QuadrupedVelocity


def written(folder: Path, text: str, name: str = "dog.xml") -> str:
    path = folder / name
    path.write_text(text)
    return f"file:{path}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the dog as this project writes it."""
    return written(tmp_path_factory.mktemp("plain"), dog_files.PLAIN)


def rollout(robot: str) -> torch.Tensor:
    """Return a little of an episode's rewards, term by term. Shape: (40, 2, terms)."""
    env = QuadrupedVelocity(num_envs=2, seed=0, robot=robot)
    env.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    mirror = env.robot.mirror_joints()
    rewards = []
    for _ in range(40):
        action = 0.3 * torch.randn(1, 12, generator=generator) * mirror.sign.abs()
        rewards.append(env.step(action.expand(2, 12))[-1]["reward_terms"])
    return torch.stack(rewards)


def feet_after(robot: Quadruped, offsets: np.ndarray) -> np.ndarray:
    """Return the feet of a robot whose joints left home by `offsets` (12,). Shape: (4, 3) [m]."""
    qpos = robot.home_qpos.copy()
    qpos[robot.joint_qpos] += offsets
    return pose(robot.model, qpos).geom_xpos[robot.foot_geoms]


@pytest.mark.parametrize("name", dog_files.EQUAL)
def test_the_same_robot_written_otherwise_is_the_same(name: str, plain: str, tmp_path: Path) -> None:
    """Roles, mirror, sweep, lift, limits and home pose do not depend on names, axes, units and frames."""
    given = load_quadruped(written(tmp_path, dog_files.EQUAL[name]()))
    expected = load_quadruped(plain)
    np.testing.assert_array_equal(given.hip_actuators, expected.hip_actuators)
    np.testing.assert_array_equal(given.knee_actuators, expected.knee_actuators)
    np.testing.assert_array_equal(given.leg_of_actuator, expected.leg_of_actuator)
    np.testing.assert_allclose(given.hip_xy_m, expected.hip_xy_m, atol=1e-6)
    np.testing.assert_allclose(given.home_qpos[:7], expected.home_qpos[:7], atol=1e-3)
    assert given.leg_length_m == pytest.approx(expected.leg_length_m, abs=1e-6)
    np.testing.assert_allclose(joint_torque_limits(given.model), joint_torque_limits(expected.model))

    # Signs of joints may differ, the feet they move may not.
    for turns in (expected.sweep_joints().T, expected.lift_offsets(0.09)[None]):
        own_turns = given.sweep_joints().T if len(turns) == 2 else given.lift_offsets(0.09)[None]
        for turn, own_turn in zip(turns, own_turns, strict=True):
            np.testing.assert_allclose(
                feet_after(given, 0.3 * own_turn), feet_after(expected, 0.3 * turn), atol=2e-3
            )
    assert torch.equal(given.mirror_joints().index, expected.mirror_joints().index)
    assert given.notes[0].startswith("robot dog: base ")


@pytest.mark.parametrize("name", ["joints about z", "degrees", "floor ground", "keyframe stand"])
def test_the_same_robot_earns_the_same_rewards(name: str, plain: str, tmp_path: Path) -> None:
    """An episode's rewards are those of the plain file, to rounding in the simulation."""
    given = rollout(written(tmp_path, dog_files.EQUAL[name]()))
    torch.testing.assert_close(given, rollout(plain), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", dog_files.TORQUES)
def test_torque_limits_of_every_actuator(name: str, tmp_path: Path) -> None:
    """A leg cannot give more than its file says, whatever element says it, and does reach it."""
    text, expected = dog_files.TORQUES[name]
    robot = load_quadruped(written(tmp_path, text))
    leg = [robot.hip_actuators[0], *np.flatnonzero(robot.leg_of_actuator == 0)[1:]]
    assert joint_torque_limits(robot.model)[leg].tolist() == pytest.approx(expected)
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.home_qpos
    # Far-away targets saturate all servos.
    for sign in (-1.0, 1.0):
        data.ctrl[:] = sign * 100.0
        mujoco.mj_forward(robot.model, data)
        torques = data.qfrc_actuator[robot.joint_qvel][leg]
        assert (sign * torques).tolist() == pytest.approx(expected, rel=0.6)
        assert (sign * torques).min() == pytest.approx(min(expected), rel=0.6)


def test_torque_limits_of_menagerie(menagerie: Path) -> None:
    """The motors of Go2 give 23.7, 23.7 and 45.43 N m, as their control ranges say."""
    limits = joint_torque_limits(load_quadruped("menagerie:unitree_go2").model)
    assert limits.tolist() == pytest.approx([23.7, 23.7, 45.43] * 4)


@pytest.mark.parametrize("name", dog_files.REFUSED)
def test_senseless_robots_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    """The line begins with the file and names the part."""
    text, expected = dog_files.REFUSED[name]
    robot = written(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        load_quadruped(robot)
    message = str(caught.value)
    assert message.startswith(f"robot={robot}: ") and expected in message and "\n" not in message


@pytest.mark.parametrize(
    "first",
    [
        "",
        '<link name="base_footprint"/><joint name="base" type="fixed"><parent link="base_footprint"/>'
        '<child link="trunk"/><origin xyz="0 0 0.3"/></joint>',
    ],
    ids=["trunk", "footprint"],
)
def test_urdf_is_given_what_it_cannot_say(first: str, tmp_path: Path) -> None:
    """A URDF gets actuators within its efforts, a free joint on its trunk, and a pose in which it stands."""
    robot = load_quadruped(written(tmp_path, dog_files.urdf(first=first), "dog.urdf"))
    assert joint_torque_limits(robot.model).tolist() == [33.0] * 12
    assert robot.model.body(robot.base_body).name == "trunk"
    assert robot.model.body_mass.sum() == pytest.approx(11.1, abs=0.1)
    assert "added a free joint on trunk, 12 actuators" in robot.notes[0]
    # Feet are under their thigh joints and on the ground.
    feet = pose(robot.model, robot.home_qpos).geom_xpos[robot.foot_geoms]
    np.testing.assert_allclose(
        feet[:, :2], [[0.2, 0.13], [0.2, -0.13], [-0.2, 0.13], [-0.2, -0.13]], atol=1e-3
    )
    np.testing.assert_allclose(feet[:, 2], 0.02, atol=1e-3)


def test_legs_bend_to_four_fifths_of_their_reach(tmp_path: Path) -> None:
    """Where the knee's range allows it, the foot is at 0.8 of the stretched leg, with knees behind."""
    robot = load_quadruped(written(tmp_path, dog_files.urdf(knee=2.5), "dog.urdf"))
    assert robot.leg_length_m == pytest.approx(0.8 * 0.4, abs=1e-3)
    thighs = robot.home_ctrl[1::3]
    assert (thighs > 0.5).all()


def test_urdf_without_effort_says_so(tmp_path: Path) -> None:
    """A file without torque limits is told so in the line."""
    robot = load_quadruped(written(tmp_path, dog_files.urdf(effort=0.0), "dog.urdf"))
    assert "no torque limits" in robot.notes[0]


def test_urdf_is_an_environment(tmp_path: Path) -> None:
    """The task runs with a URDF at its default settings, and the robot stands for a second."""
    robot = written(tmp_path, dog_files.urdf(), "dog.urdf")
    env = QuadrupedVelocity(num_envs=2, seed=0, robot=robot, standing_share=1.0)
    env.reset(seed=0)
    for _ in range(50):
        _, reward, terminated, _, _ = env.step(torch.zeros(2, 12))
        assert not terminated.any() and reward.isfinite().all()


def test_feet_of_other_shapes_get_spheres(plain: str, tmp_path: Path) -> None:
    """A box at the end of a leg gets a sphere that touches the ground in the same place."""
    text = dog_files.PLAIN.replace(
        '<geom type="sphere" size="0.024"', '<geom type="box" size="0.01 0.01 0.024"'
    )
    robot = load_quadruped(written(tmp_path, text))
    assert (robot.model.geom_type[robot.foot_geoms] == mujoco.mjtGeom.mjGEOM_SPHERE).all()
    assert "added a spherical foot FL" in robot.notes[0]
    lowest = pose(robot.model, robot.home_qpos).geom_xpos[robot.foot_geoms, 2] - robot.foot_radius_m
    assert np.abs(lowest).max() < 0.02


def test_lift_raises_the_feet_exactly(menagerie: Path) -> None:
    """Every foot of Go2 rises by what was asked, straight up."""
    robot = load_quadruped("menagerie:unitree_go2")
    rise = feet_after(robot, robot.lift_offsets(0.09)) - feet_after(robot, np.zeros(12))
    np.testing.assert_allclose(rise, np.tile([0.0, 0.0, 0.09], (4, 1)), atol=1e-6)


def test_feet_that_cannot_rise_are_named(plain: str) -> None:
    """A swing height beyond what the legs can fold is refused before training."""
    with pytest.raises(ValueError, match=r"task\.swing_height_m=0\.3: the legs of dog cannot lift"):
        load_quadruped(plain).lift_offsets(0.3)


def test_payload_may_not_exceed_the_trunk(plain: str) -> None:
    """A trunk that would weigh nothing is refused by the setting's name."""
    ranges: dict[str, Any] = {"payload_kg": (-5.0, 1.0)}
    with pytest.raises(
        ValueError, match=r"task\.randomization\.payload_kg\[0\]=-5.0: the trunk of dog has only"
    ):
        QuadrupedVelocity(num_envs=1, robot=plain, randomization=ranges)


def test_line_of_a_file_is_shown_and_known_robots_are_quiet(plain: str) -> None:
    """Training starts with one line about what was inferred; the embedded dog needs none."""
    (line,) = QuadrupedVelocity(num_envs=1, robot=plain).notes
    assert "keyframe home" in line and "torques up to 33 33 40 N m" in line and "\n" not in line
    assert QuadrupedVelocity(num_envs=1).notes == ()
