"""The eleven gymnasium tasks give gymnasium's own numbers, with default and with other options."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.envs.tasks.gym_mujoco.base import ASSETS
from factory.envs.tasks.gym_mujoco.config import GYM_TASKS

STEPS = 300
WORLDS = 2
TOLERANCE = 1e-5

OTHERS: dict[str, dict[str, Any]] = {
    "Ant": {
        "frame_skip": 3,
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.2,
        "contact_cost_weight": 1e-3,
        "healthy_reward": 0.7,
        "main_body": "front_left_leg",
        "terminate_when_unhealthy": False,
        "healthy_z_range": (0.4, 0.8),
        "contact_force_range": (-20.0, 10.0),
        "reset_noise_scale": 0.05,
        "exclude_current_positions_from_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
    "HalfCheetah": {
        "frame_skip": 2,
        "forward_reward_weight": 0.5,
        "ctrl_cost_weight": 0.3,
        "reset_noise_scale": 0.02,
        "exclude_current_positions_from_observation": False,
    },
    "Hopper": {
        "frame_skip": 2,
        "forward_reward_weight": 1.5,
        "ctrl_cost_weight": 0.01,
        "healthy_reward": 0.3,
        "terminate_when_unhealthy": False,
        "healthy_state_range": (-3.0, 4.0),
        "healthy_z_range": (0.9, 1.3),
        "healthy_angle_range": (-0.5, 0.1),
        "reset_noise_scale": 0.05,
        "exclude_current_positions_from_observation": False,
    },
    "Humanoid": {
        "frame_skip": 2,
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.3,
        "contact_cost_weight": 1e-5,
        "contact_cost_range": (0.01, 5.0),
        "healthy_reward": 3.0,
        "terminate_when_unhealthy": False,
        "healthy_z_range": (1.2, 1.5),
        "reset_noise_scale": 0.05,
        "exclude_current_positions_from_observation": False,
        "include_cvel_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
    "HumanoidStandup": {
        "frame_skip": 3,
        "uph_cost_weight": 2.0,
        "ctrl_cost_weight": 0.3,
        "impact_cost_weight": 1e-5,
        "impact_cost_range": (0.01, 5.0),
        "reset_noise_scale": 0.05,
        "exclude_current_positions_from_observation": False,
        "include_cinert_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
    },
    "InvertedDoublePendulum": {"frame_skip": 2, "healthy_reward": 5.0, "reset_noise_scale": 0.05},
    "InvertedPendulum": {"frame_skip": 3, "reset_noise_scale": 0.05},
    "Pusher": {
        "frame_skip": 3,
        "reward_near_weight": 1.0,
        "reward_dist_weight": 2.0,
        "reward_control_weight": 0.5,
    },
    "Reacher": {"frame_skip": 3, "reward_dist_weight": 2.0, "reward_control_weight": 0.5},
    "Swimmer": {
        "frame_skip": 2,
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.01,
        "reset_noise_scale": 0.3,
        "exclude_current_positions_from_observation": False,
    },
    "Walker2d": {
        "frame_skip": 2,
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.01,
        "healthy_reward": 0.5,
        "terminate_when_unhealthy": False,
        "healthy_z_range": (1.0, 1.3),
        "healthy_angle_range": (-0.4, 0.3),
        "reset_noise_scale": 0.05,
        "exclude_current_positions_from_observation": False,
    },
}
"""Task -> a value other than the default for every option of gymnasium's constructor that is about the task.
"""
CASES = [(name, {}) for name in OTHERS] + list(OTHERS.items())


def ours(name: str, **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"factory.envs:factory/{name}-v5", **kwargs).unwrapped


def theirs(name: str, **options: Any) -> Any:
    return gymnasium.make(f"{name}-v5", **options).unwrapped


def place(env: Any, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Put one of gymnasium's environments into a state, with nothing left of what it did before."""
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(qpos, qvel)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[f"{n}-{'other' if o else 'default'}" for n, o in CASES]
)
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31 - 1))
def test_three_hundred_steps_are_gymnasiums(name: str, options: dict[str, Any], seed: int) -> None:
    """From equal states, equal actions give equal observations, rewards, terms and flags, past the episode's
    end.
    """
    batch = ours(
        name, num_envs=WORLDS, num_threads=1, autoreset_mode="Disabled", max_episode_steps=STEPS, **options
    )
    singles = [theirs(name, **options) for _ in range(WORLDS)]
    batch.reset(seed=seed)
    qpos, qvel = (batch.physics.field(field).numpy().copy() for field in ("qpos", "qvel"))
    batch.set_state(qpos, qvel)
    for single, *state in zip(singles, qpos, qvel, strict=True):
        place(single, *state)
    close(batch._get_observations()["policy"], [single._get_obs() for single in singles], "first observation")
    random = np.random.default_rng(seed)
    low, high = batch.single_action_space.low, batch.single_action_space.high
    for step in range(STEPS):
        actions = random.uniform(low, high, (WORLDS, len(low))).astype(np.float32)
        obs, reward, terminated, truncated, info = batch.step(actions)
        expected = [single.step(action) for single, action in zip(singles, actions, strict=True)]
        where = f"step {step}"
        close(obs, [row[0] for row in expected], f"{where}, observation")
        close(reward, [row[1] for row in expected], f"{where}, reward")
        assert terminated.tolist() == [row[2] for row in expected], f"{where}, terminated"
        assert not truncated.any() or step == STEPS - 1
        for key in expected[0][4]:
            close(info[key], [row[4][key] for row in expected], f"{where}, {key}")
        close(info["reward_terms"].sum(-1), reward, f"{where}, sum of the terms")


@pytest.mark.parametrize("name", OTHERS)
def test_options_and_their_defaults_are_gymnasiums(name: str) -> None:
    """Every option of gymnasium's constructor that is about the task is a value of ours, with the same
    default.
    """
    spec = gymnasium.spec(f"{name}-v5")
    parameters = inspect.signature(gymnasium.envs.registration.load_env_creator(spec.entry_point)).parameters
    foreign = ("xml_file", "default_camera_config", "kwargs")
    expected = {key: value.default for key, value in parameters.items() if key not in foreign}
    cfg = next(task for task in GYM_TASKS if task.id == f"factory/{name}-v5")()
    assert {key: getattr(cfg, key) for key in expected} == expected
    assert (cfg.max_episode_steps, cfg.return_threshold) == (spec.max_episode_steps, spec.reward_threshold)
    assert all(OTHERS[name][key] != expected[key] for key in OTHERS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_spaces_and_info_are_gymnasiums(name: str) -> None:
    """The single environment has gymnasium's spaces (observations in float32) and every entry of its
    `info`.
    """
    single, other = gymnasium.make(f"factory.envs:factory/{name}-v5"), theirs(name)
    assert single.action_space == other.action_space
    assert single.observation_space.shape == other.observation_space.shape
    assert single.unwrapped.metadata["render_fps"] == other.metadata["render_fps"]
    _, at_reset = single.reset(seed=0)
    _, expected_at_reset = other.reset(seed=0)
    assert set(at_reset) == set(expected_at_reset)
    *_, info = single.step(single.action_space.sample())
    *_, expected = other.step(other.action_space.sample())
    assert set(expected) <= set(info)
    assert all(np.shape(info[key]) == np.shape(expected[key]) for key in expected)


@pytest.mark.parametrize("name", OTHERS)
def test_episodes_start_as_gymnasiums_do(name: str) -> None:
    """Initial positions and velocities have gymnasium's mean, spread and range, in every coordinate."""
    batch, single = ours(name, num_envs=2000, seed=0), theirs(name)
    batch.reset(seed=0)
    got = torch.cat([batch.physics.field("qpos"), batch.physics.field("qvel")], -1).numpy()
    single.reset(seed=0)
    rows = []
    for _ in range(2000):
        single.reset_model()
        rows.append(single.state_vector())
    expected = np.stack(rows)
    spread = expected.std(0)
    assert (np.abs(got.mean(0) - expected.mean(0)) <= 0.16 * spread + 1e-9).all()
    assert (np.abs(got.std(0) - spread) <= 0.1 * spread + 1e-9).all()
    width = np.ptp(expected, axis=0)
    assert (got.min(0) >= expected.min(0) - 0.4 * width - 1e-9).all()
    assert (got.max(0) <= expected.max(0) + 0.4 * width + 1e-9).all()


def test_pushed_object_and_target_keep_their_distances() -> None:
    """The pusher's object starts at least 0.17 m from its goal, the reacher's target within 0.2 m of the
    centre.
    """
    for name, keeps in (("Pusher", lambda r: (r > 0.17).all()), ("Reacher", lambda r: (r < 0.2).all())):
        env = ours(name, num_envs=2000, seed=0)
        env.reset(seed=0)
        columns = slice(-4, -2) if name == "Pusher" else slice(-2, None)
        assert keeps(env.physics.field("qpos")[:, columns].norm(dim=-1))


@pytest.mark.parametrize("name", ["Ant", "Humanoid"])
def test_a_new_episode_begins_without_contact_forces(name: str) -> None:
    """Forces are felt within an episode; the first observation of the next has none, as gymnasium's."""
    env = ours(name, num_envs=4, max_episode_steps=20, seed=0)
    env.reset(seed=0)
    for _ in range(20):
        obs, _, _, truncated, info = env.step(torch.zeros(env.action_space.shape))
    assert bool(truncated.all())
    assert bool((info["final_obs"][:, -78:] != 0).any())
    assert not obs[:, -78:].any()


def test_actions_outside_of_the_space_are_clipped() -> None:
    """An action beyond the actuators' range acts and costs like the nearest within."""
    steps = []
    for size in (1.0, 50.0):
        env = ours("InvertedPendulum", num_envs=1, seed=0)
        env.reset(seed=0)
        steps.append(env.step(torch.full((1, 1), 3.0 * size))[0])
    assert torch.equal(*steps)
    env = ours("HalfCheetah", num_envs=1, seed=0)
    env.reset(seed=0)
    *_, info = env.step(torch.full((1, 6), 9.0))
    torch.testing.assert_close(info["reward_ctrl"], torch.tensor([-0.6]))


@pytest.mark.parametrize("name", ["Ant", "Humanoid"])
def test_saved_state_continues_bit_for_bit(name: str) -> None:
    """Lagging positions and contact forces are part of the state: rewards after a restore are the same."""
    first, second = (ours(name, num_envs=2, seed=seed) for seed in (0, 1))
    first.reset(seed=0)
    action = torch.from_numpy(first.action_space.sample())
    for _ in range(10):
        first.step(action)
    second.load_state_dict(first.state_dict())
    for _ in range(10):
        for expected, got in zip(first.step(action)[:2], second.step(action)[:2], strict=True):
            assert torch.equal(expected, got)


def test_robot_of_a_file_takes_the_place_of_gymnasiums(tmp_path: Path) -> None:
    """`robot=file:...` trains the same task on another body."""
    heavy = (ASSETS / "hopper.xml").read_text().replace('gear="200.0"', 'gear="20.0"')
    (tmp_path / "weak.xml").write_text(heavy)
    env = ours("Hopper", num_envs=1, robot=f"file:{tmp_path / 'weak.xml'}")
    assert env.robot_name == "weak"
    assert env.physics.model.actuator_gear[0, 0] == 20.0


def close(got: torch.Tensor, expected: Any, what: str) -> None:
    """Assert equality to float32's rounding: relative to each value, and near zero to the row's largest."""
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    scale = expected.abs().amax(-1, keepdim=True).clamp(min=1.0) if expected.ndim > 1 else 1.0
    error = (got.double() - expected).abs()
    allowed = TOLERANCE * expected.abs() + 1e-6 * scale
    worst = (error - allowed).argmax()
    assert (error <= allowed).all(), f"{what}: {got.flatten()[worst]} is not {expected.flatten()[worst]}"
