"""The eleven gymnasium tasks give gymnasium's own numbers, with default and with other options."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    "Pusher": {"frame_skip": 3, "reward_near_weight": 1.0, "reward_dist_weight": 2.0, "reward_control_weight": 0.5},
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
"""Task -> a value other than the default for every option of gymnasium's constructor that is about the task."""
CASES = [(name, {}) for name in OTHERS] + list(OTHERS.items())


def ours(name: str, **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"envs:factory/{name}-v5", **kwargs).unwrapped


def theirs(name: str, **options: Any) -> Any:
    return gymnasium.make(f"{name}-v5", **options).unwrapped


def place(env: Any, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Put one of gymnasium's environments into a state, with nothing left of what it did before."""
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(qpos, qvel)


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{'other' if o else 'default'}" for n, o in CASES])
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31 - 1))
def test_three_hundred_steps_are_gymnasiums(name: str, options: dict[str, Any], seed: int) -> None:
    """From equal states, equal actions give equal observations, rewards, terms and flags, past the episode's end."""
    batch = ours(
        name, num_envs=WORLDS, num_threads=1, seed=seed, autoreset_mode=AutoresetMode.DISABLED,
        max_episode_steps=STEPS, **options,
    )  # fmt: skip
    singles = [theirs(name, **options) for _ in range(WORLDS)]
    batch.reset(seed=seed)
    qpos, qvel = (batch.physics.field(field).numpy().copy() for field in ("qpos", "qvel"))
    batch.set_state(qpos, qvel)
    for single, *state in zip(singles, qpos, qvel, strict=True):
        place(single, *state)
    close(batch._observe()["policy"], [single._get_obs() for single in singles], "first observation")
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


def close(got: torch.Tensor, expected: Any, what: str) -> None:
    """Assert equality to float32's rounding: relative to each value, and near zero to the row's largest."""
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    scale = expected.abs().amax(-1, keepdim=True).clamp(min=1.0) if expected.ndim > 1 else 1.0
    error = (got.double() - expected).abs()
    allowed = TOLERANCE * expected.abs() + 1e-6 * scale
    worst = (error - allowed).argmax()
    assert (error <= allowed).all(), f"{what}: {got.flatten()[worst]} is not {expected.flatten()[worst]}"
