"""Every task keeps Gymnasium's contract, batched and single, in all autoreset modes."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from factory.envs.core.check import check_vector_env
from factory.envs.core.observations import groups_of
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.registry import TASKS
from tests.helpers.rows import whole_worlds

TASK_IDS = tuple(task.id for task in TASKS.values() if not task.example)
"""Every task that is complete without further settings."""


class FreePole(CartpoleSwingup):
    """The cart-pole, with a force that its model does not limit."""

    def _load_model(self) -> mujoco.MjModel:
        model = super()._load_model()
        model.actuator_ctrllimited[:] = False
        return model


def make(env_id: str, **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"factory.envs:{env_id}", **kwargs).unwrapped


@pytest.mark.slow
@pytest.mark.parametrize("env_id", TASK_IDS)
def test_vector_contract(env_id: str) -> None:
    """The batched environment passes the conformance check in all three autoreset modes."""
    check_vector_env(lambda **kwargs: make(env_id, **kwargs), num_envs=whole_worlds(env_id, 4))


@pytest.mark.parametrize("env_id", TASK_IDS)
def test_single_environment_passes_gymnasiums_checker_without_a_warning(env_id: str) -> None:
    """`gymnasium.make` gives an environment that `check_env` accepts; `make_vec` warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium.make_vec(f"factory.envs:{env_id}", num_envs=whole_worlds(env_id, 2)).close()
        env = gymnasium.make(f"factory.envs:{env_id}", render_mode=None).unwrapped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space.*infinity.*")
        warnings.filterwarnings("ignore", message=".*recommend using a symmetric and normalized space.*")
        check_env(env, skip_render_check=True)


def test_final_observation_is_the_last_of_the_old_episode() -> None:
    """With one world truncated, `final_obs` continues the old trajectory and `obs` starts a new one."""
    env = make("factory/CartpoleSwingup-v0", num_envs=2, max_episode_steps=3, seed=0)
    free = make("factory/CartpoleSwingup-v0", num_envs=2, max_episode_steps=100, seed=0)
    env.reset(seed=0), free.reset(seed=0)
    action = torch.full((2, 1), 0.7)
    for _ in range(3):
        obs, _, _, truncated, info = env.step(action)
        expected, *_ = free.step(action)
    assert truncated.all()
    torch.testing.assert_close(info["final_obs"], expected, rtol=0, atol=0)
    assert not torch.allclose(obs, expected)


def test_state_dict_continues_bit_for_bit() -> None:
    """Steps after `load_state_dict` repeat those after `state_dict`, derived fields and randomness
    included.
    """
    first = make("factory/QuadrupedVelocity-v0", num_envs=8, seed=3)
    first.reset(seed=3)
    action = torch.linspace(-0.3, 0.3, 96).reshape(8, 12)
    for _ in range(5):
        first.step(action)
    state = first.state_dict()
    second = make("factory/QuadrupedVelocity-v0", num_envs=8, seed=99)
    second.load_state_dict(state)
    for _ in range(30):
        expected, got = first.step(action), second.step(action)
        for group in expected[0]:
            assert torch.equal(expected[0][group], got[0][group])
        assert torch.equal(expected[1], got[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("field", ["qpos", "qvel"])
@pytest.mark.parametrize(
    "task", ["CartpoleSwingup-v0", "QuadrupedVelocity-v0", "Ant-v5", "HalfCheetah-v5", "Humanoid-v5"]
)
def test_a_world_that_is_no_longer_finite_is_ended_and_restarted(task: str, field: str, value: float) -> None:
    """It alone is terminated and counted, nobody sees it, and it goes on from a new state; others never
    notice.
    """
    both = [make(f"factory/{task}", num_envs=3, num_threads=1, seed=0) for _ in range(2)]
    for env in both:
        env.reset(seed=0)
    spoiled = both[0]
    spoiled.physics.field(field)[1, 2 % spoiled.physics.field(field).shape[1]] = value
    for step in range(3):
        action = torch.zeros(spoiled.action_space.shape)
        (obs, reward, terminated, _, info), (expected, *_) = (env.step(action) for env in both)
        assert info["nonfinite"].tolist() == terminated.tolist() == [False, step == 0, False]
        groups = [groups_of(found) for found in (obs, info["final_obs"], {"policy": reward})]
        assert all(group.isfinite().all() for found in groups for group in found.values())
        assert torch.equal(groups_of(obs)["policy"][::2], groups_of(expected)["policy"][::2])


def test_wrong_action_shape_is_named() -> None:
    """An action array of another shape is refused with both shapes in the message."""
    env = make("factory/CartpoleSwingup-v0", num_envs=3)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(3, 1\)"):
        env.step(torch.zeros(3, 2))


def test_render_gives_one_frame_a_world() -> None:
    """`render_mode="rgb_array"` returns a tuple of pictures that are not empty."""
    env = make("factory/CartpoleSwingup-v0", num_envs=2, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert len(frames) == 2 and frames[0].shape == (480, 640, 3) and frames[0].dtype == np.uint8
    assert frames[0].std() > 5
    env.close()


def test_numpy_actions_are_taken() -> None:
    """Actions may come as numpy, as Gymnasium's `action_space.sample()` gives them."""
    env = make("factory/CartpoleSwingup-v0", num_envs=2)
    env.reset(seed=0)
    obs, *_ = env.step(env.action_space.sample())
    assert isinstance(obs, torch.Tensor)


@pytest.mark.parametrize(
    ("mode", "restarts"),
    [(AutoresetMode.SAME_STEP, 1), (AutoresetMode.NEXT_STEP, 2), (AutoresetMode.DISABLED, None)],
)
def test_autoreset_modes_restart_episodes_when_gymnasium_says(
    mode: AutoresetMode, restarts: int | None
) -> None:
    """An episode of one step restarts in the step that ends it, in the next one, or only by a reset."""
    env = make("factory/CartpoleSwingup-v0", num_envs=2, max_episode_steps=1, autoreset_mode=mode, seed=0)
    assert env.metadata["autoreset_mode"] is mode
    env.reset(seed=0)
    clocks = []
    for _ in range(3):
        env.step(torch.zeros(2, 1))
        clocks.append(env.episode_steps.tolist() == [0, 0])
    assert clocks.index(True) + 1 == restarts if restarts else not any(clocks)


def test_unknown_autoreset_mode_is_refused() -> None:
    """Modes have Gymnasium's names."""
    with pytest.raises(ValueError, match="sometimes"):
        make("factory/CartpoleSwingup-v0", num_envs=2, autoreset_mode="sometimes")


def test_actuators_without_a_range_take_any_action() -> None:
    """The action space is the actuators' ranges, unbounded where a model gives none, and actions act within
    it.
    """
    assert make("factory/HalfCheetah-v5", num_envs=1).single_action_space.is_bounded()
    env = FreePole(num_envs=1, seed=0)
    assert env.single_action_space.low == -np.inf and env.single_action_space.high == np.inf
    env.step(torch.full((1, 1), 7.0))
    assert env.physics.field("ctrl").item() == 7.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e35])
@pytest.mark.parametrize("task", ["CartpoleSwingup-v0", "QuadrupedVelocity-v0", "HalfCheetah-v5"])
def test_an_action_that_is_not_finite_ends_its_world_alone(task: str, value: float) -> None:
    """In every task alike, also where MuJoCo takes such a control for 0; the true numbers are in `raw`."""
    both = [make(f"factory/{task}", num_envs=3, num_threads=1, seed=0) for _ in range(2)]
    for env in both:
        env.reset(seed=0)
    for step in range(3):
        action = torch.zeros(both[0].action_space.shape)
        expected, *_ = both[1].step(action)
        action[1, 0] = value if step == 0 else 0.0
        obs, reward, terminated, _, info = both[0].step(action)
        assert info["nonfinite"].tolist() == terminated.tolist() == [False, step == 0, False]
        assert ("raw" in info) is (step == 0)
        assert reward.isfinite().all() and info["reward_terms"].isfinite().all()
        assert all(value.isfinite().all() for value in info.get("diagnostics", {}).values())
        assert torch.equal(groups_of(obs)["policy"][::2], groups_of(expected)["policy"][::2])
        assert groups_of(obs)["policy"].isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e35])
def test_an_absurd_reward_ends_its_world_and_is_not_passed_on(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reward and terms of that step are zeros; the world restarts, and the true reward is in `raw`."""
    env = make("factory/CartpoleSwingup-v0", num_envs=3, seed=0)
    env.reset(seed=0)
    inner = env.unwrapped
    compute = inner._get_rewards_and_dones

    def poisoned():
        reward, terminated, info = compute()
        reward[2] = value
        return reward, terminated, info

    monkeypatch.setattr(inner, "_get_rewards_and_dones", poisoned)
    _, reward, terminated, _, info = env.step(torch.zeros(3, 1))
    assert reward[2] == 0 and info["reward_terms"][2].tolist() == [0.0] * 3
    assert terminated.tolist() == info["nonfinite"].tolist() == [False, False, True]
    assert str(float(info["raw"]["reward"][2])) == str(float(torch.tensor(value)))
    assert inner.episode_steps.tolist() == [1, 1, 0]


class HeldCartpole(CartpoleSwingup):
    """Begins every episode with a force."""

    def _reset_envs(self, mask: torch.Tensor) -> None:
        super()._reset_envs(mask)
        self._ctrl.copy_(torch.where(mask[:, None], 0.5, self._ctrl))


def test_an_episode_begins_with_the_controls_that_the_task_writes() -> None:
    """They are zero unless it writes some, whatever the episode before ended with."""
    for task, expected in ((CartpoleSwingup, 0.0), (HeldCartpole, 0.5)):
        env = task(num_envs=2, max_episode_steps=1, seed=0)
        env.step(torch.ones(2, 1))
        assert env.physics.field("ctrl")[:, 0].tolist() == [expected, expected]
