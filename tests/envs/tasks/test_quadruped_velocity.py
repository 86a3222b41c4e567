"""The robot dog's task: symmetry, commands, falls, robots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from factory import registry
from factory.envs.robots import kelpie
from factory.envs.robots.loading import load_quadruped
from factory.envs.robots.quadruped import column_index
from factory.envs.tasks.quadruped_velocity import QuadrupedVelocity
from factory.envs.terms import rewards
from factory.envs.terms.rotation import projected_gravity, rotate_inverse

CALM = {
    "command_interval_s": 1e9,
    "randomization": {
        "push_m_per_s": 0.0,
        "observation_noise": 0.0,
        "friction": (0.8, 0.8),
        "payload_kg": (0.0, 0.0),
        "motor_strength": (1.0, 1.0),
    },
}


def test_mirrored_worlds_look_the_same_to_the_policy() -> None:
    """Two worlds that are each other's mirror image, half a stride apart, give equal observations and
    rewards.
    """
    env = QuadrupedVelocity(num_envs=2, seed=0, **CALM)
    env.reset(seed=0)
    qpos, qvel = env.physics.field("qpos").clone(), torch.zeros_like(env.physics.field("qvel"))
    qpos[0, 3:7] = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    qpos[1] = qpos[0]
    qpos[1, 7:19] = env.robot.mirror_joints()(qpos[0, 7:19])
    env.set_state(qpos, qvel)
    env.target.copy_(torch.tensor([[0.5, 0.3, 0.2], [0.5, -0.3, -0.2]]))
    env.phase.copy_(torch.tensor([0.3, 0.3 + math.pi]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        action = 0.3 * torch.randn(1, 12, generator=generator)
        obs, reward, *_ = env.step(action.expand(2, 12))
        for group in ("policy", "critic"):
            torch.testing.assert_close(obs[group][0], obs[group][1], rtol=0, atol=1e-3)
        torch.testing.assert_close(reward[0], reward[1], rtol=0, atol=1e-4)


def test_mirror_is_its_own_inverse() -> None:
    """Mirroring joints twice changes nothing, and once changes something."""
    mirror = load_quadruped("default").mirror_joints()
    value = torch.arange(1.0, 13.0)
    assert torch.equal(mirror(mirror(value)), value)
    assert not torch.equal(mirror(value), value)


def test_a_robot_on_its_side_has_fallen() -> None:
    """A trunk tilted by 90 degrees terminates its world and only that one."""
    env = QuadrupedVelocity(num_envs=2, seed=0, **CALM)
    env.reset(seed=0)
    qpos = env.physics.field("qpos").clone()
    qpos[1, 3:7] = torch.tensor([math.sqrt(0.5), math.sqrt(0.5), 0, 0], dtype=torch.float64)
    env.set_state(qpos, torch.zeros(2, 18))
    _, reward, terminated, _, info = env.step(torch.zeros(2, 12))
    assert terminated.tolist() == [False, True]
    assert reward[1] < reward[0]
    assert info["diagnostics"]["fall"].tolist() == [0.0, 1.0]


def test_targets_lie_in_their_ranges_and_change() -> None:
    """Targets stay within the configured bounds, some stand still, and new ones come as time passes."""
    env = QuadrupedVelocity(
        num_envs=512, seed=0, command_m_per_s=0.7, command_rad_per_s=0.4, command_interval_s=0.1
    )
    env.reset(seed=0)
    first = env.target.clone()
    assert first[:, :2].abs().max() <= 0.7 and first[:, 2].abs().max() <= 0.4
    assert 0.03 < (first == 0).all(-1).float().mean() < 0.2
    for _ in range(10):
        env.step(torch.zeros(512, 12))
    assert (env.target != first).any(-1).float().mean() > 0.5


def test_commands_approach_their_targets_at_a_bounded_rate() -> None:
    """A command starts at rest, moves by at most the slew rate in a control step, and arrives exactly."""
    env = QuadrupedVelocity(num_envs=2, seed=0, command_slew_per_s=2.5, **CALM)
    env.reset(seed=0)
    env.target.copy_(torch.tensor([[0.5, -0.25, 0.0], [0.0, 0.0, 0.01]]))
    before = env.command.clone()
    assert torch.equal(before, torch.zeros(2, 3))
    env.step(torch.zeros(2, 12))
    torch.testing.assert_close(env.command, torch.tensor([[0.05, -0.025, 0.0], [0.0, 0.0, 0.01]]))
    for _ in range(10):
        env.step(torch.zeros(2, 12))
    torch.testing.assert_close(env.command, env.target)


def test_randomisation_reaches_the_physics() -> None:
    """Friction, trunk mass and motor gains differ between worlds within their ranges."""
    env = QuadrupedVelocity(num_envs=64, seed=0)
    env.reset(seed=0)
    physics, robot = env.physics, env.robot
    friction = physics.model_field("geom_friction")[:, robot.foot_geoms[0], 0]
    assert friction.std() > 0 and friction.min() >= 0.5 and friction.max() <= 1.25
    mass = physics.model_field("body_mass")[:, robot.base_body] - robot.model.body_mass[robot.base_body]
    assert mass.std() > 0 and mass.min() >= -0.5 and mass.max() <= 1.5
    gain, bias = physics.model_field("actuator_gainprm"), physics.model_field("actuator_biasprm")
    assert gain[:, 0, 0].std() > 0 and torch.equal(gain[:, :, 0], -bias[:, :, 1])


def test_standing_robot_keeps_its_height_with_zero_action() -> None:
    """Commanded to stand, the robot stands: the home pose is stable under its own gains."""
    env = QuadrupedVelocity(num_envs=8, seed=0, standing_share=1.0, **CALM)
    env.reset(seed=0)
    for _ in range(100):
        _, _, terminated, _, _ = env.step(torch.zeros(8, 12))
        assert not terminated.any()
    assert (env.physics.field("qpos")[:, 2] > 0.8 * env.robot.home_qpos[2]).all()


def test_rotations_agree_with_matrices() -> None:
    """Rotating by a quaternion equals rotating by the matrix MuJoCo makes of it."""
    import mujoco
    import numpy as np

    generator = torch.Generator().manual_seed(1)
    quat = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=-1)
    vector = torch.randn(5, 3, generator=generator)
    for i in range(5):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, quat[i].double().numpy())
        rotation = torch.from_numpy(matrix.reshape(3, 3)).float()
        torch.testing.assert_close(
            rotate_inverse(quat, vector)[i], rotation.T @ vector[i], rtol=1e-5, atol=1e-5
        )
        down = torch.tensor([0.0, 0, -1])
        torch.testing.assert_close(projected_gravity(quat)[i], rotation.T @ down, rtol=1e-5, atol=1e-5)


def test_feet_phase_rewards_the_trot() -> None:
    """Feet at the wanted heights earn 1, all feet on the ground less in mid swing, and standing earns 1 at
    rest.
    """
    swing = rewards.trot_swing(torch.tensor([math.pi / 2]), torch.tensor(rewards.TROT_OFFSETS_RAD))
    torch.testing.assert_close(swing, torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    best = rewards.reward_feet_phase(0.08 * swing, swing, swing_height=0.08)
    flat = rewards.reward_feet_phase(torch.zeros(1, 4), swing, swing_height=0.08)
    rest = rewards.reward_feet_phase(torch.zeros(1, 4), 0.0 * swing, swing_height=0.08)
    assert best.item() == pytest.approx(1.0) and rest.item() == pytest.approx(1.0)
    assert flat.item() < 0.5


@pytest.mark.parametrize("name", ["unitree_go1", "unitree_go2"])
def test_menagerie_robots_load_and_walk_on_the_spot(name: str, menagerie: Path) -> None:
    """Real robots get the same task: twelve joints, mirrored legs, and they survive two seconds of zero
    action.
    """
    env = QuadrupedVelocity(num_envs=4, seed=0, robot=f"menagerie:{name}", standing_share=1.0, **CALM)
    env.reset(seed=0)
    fallen = torch.zeros(4, dtype=torch.bool)
    for _ in range(100):
        fallen |= env.step(torch.zeros(4, 12))[2]
    assert not fallen.any()
    assert env.single_action_space.shape == (12,)


def test_robot_from_file_says_what_is_missing(tmp_path: Path) -> None:
    """A body without legs is refused in one line that says what was looked for."""
    path = tmp_path / "box.xml"
    path.write_text(
        "<mujoco><worldbody><body name='trunk'><freejoint/><geom size='.1'/></body></worldbody></mujoco>"
    )
    with pytest.raises(ValueError) as caught:
        load_quadruped(f"file:{path}")
    message = str(caught.value)
    assert "a base with four legs of three hinges each is needed; trunk carries no joints" in message
    assert "\n" not in message


def test_embedded_robot_loads_from_a_file_too() -> None:
    """The embedded dog, read through `file:`, has the same legs, and gains in proportion to its weight."""
    embedded = load_quadruped("default")
    from_file = load_quadruped(f"file:{kelpie.MJCF}")
    assert from_file.foot_geoms.tolist() == embedded.foot_geoms.tolist()
    assert from_file.home_qpos.tolist() == embedded.home_qpos.tolist()
    assert from_file.model.actuator_gainprm[0, 0] == pytest.approx(6.5 * from_file.model.body_mass.sum())
    assert embedded.model.actuator_gainprm[0, 0] == 80.0


@pytest.mark.parametrize(
    "model", [kelpie.MJCF, mujoco.MjSpec.from_file(str(kelpie.MJCF))], ids=["file", "spec"]
)
def test_registered_robot_is_loaded_by_its_name(model: Any) -> None:
    """A loader returns an MJCF file or an `MjSpec`, with particulars; an unknown name is answered with all
    names.
    """
    registry.register_robot("terrier", lambda: (model, kelpie.PARAMETERS))
    try:
        assert load_quadruped("terrier").name == "terrier"
        registry.register_robot("plain", lambda: kelpie.MJCF)
        assert load_quadruped("plain").notes and not load_quadruped("terrier").notes
        with pytest.raises(
            ValueError, match="robot=terier: unknown; choose default, menagerie:<name>, plain, terrier or"
        ):
            load_quadruped("terier")
    finally:
        registry.ROBOTS.clear()


def test_time_step_and_decimation_are_the_tasks() -> None:
    """Two physics steps of 10 ms make a control step of 20 ms, and the engine's clock agrees."""
    env = QuadrupedVelocity(num_envs=1, seed=0, timestep_s=0.01, decimation=2)
    env.reset(seed=0)
    time_s = env.physics.field("time")
    before_s = float(time_s)
    env.step(torch.zeros(1, 12))
    assert env.step_dt_s == pytest.approx(0.02)
    assert float(time_s) - before_s == pytest.approx(0.02)


@pytest.mark.parametrize("wrong", [{"timestep_s": 0.0}, {"decimation": 0}])
def test_time_steps_that_stand_still_are_refused(wrong: dict[str, float]) -> None:
    """A time step of no length and a control step of no physics are refused by name."""
    with pytest.raises(ValueError, match=f"task.{next(iter(wrong))}=0"):
        QuadrupedVelocity(num_envs=1, **wrong)


def test_scattered_joints_are_indexed_on_the_device_of_the_simulation() -> None:
    """Joints in a row are a slice; others an index on the device, since a copy breaks a CUDA graph."""
    device = torch.device("meta")
    assert column_index(np.arange(7, 19), device) == slice(7, 19)
    index = column_index(np.array([7, 9, 8]), device)
    assert isinstance(index, torch.Tensor)
    assert index.device == device
