"""Foreign environments keep the contract of our own, whoever does the batching."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from odd_worlds import Odd

from factory.envs.adapters.gymnasium_env import GymnasiumEnv
from factory.envs.core.check import check_interface, check_next_step, check_same_step, check_seeding
from factory.envs.core.errors import WorldError
from factory.envs.rendering import RenderingUnavailableError
from factory.envs.rendering.camera import Camera

BATCHINGS = ("sync", "async")
Make = Callable[..., GymnasiumEnv]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that builds environments, which are closed after the test."""
    built: list[GymnasiumEnv] = []

    def build(env_id: str, **keywords: Any) -> GymnasiumEnv:
        built.append(
            gymnasium.make_vec("factory.envs:factory/Gymnasium-v0", env_id=env_id, **keywords).unwrapped
        )  # type: ignore[arg-type]
        return built[-1]

    yield build
    for env in built:
        env.close()


def play(env: GymnasiumEnv, actions: torch.Tensor) -> list[torch.Tensor]:
    """Return everything that steps with `actions` (T, ...) gave."""
    return [value for action in actions for value in env.step(action)[:4]]


def started(env: GymnasiumEnv, *, seed: int = 0) -> GymnasiumEnv:
    env.reset(seed=seed)
    return env


@pytest.mark.parametrize("vectorization", BATCHINGS)
def test_contract_of_worlds_that_gymnasium_batches(vectorization: str) -> None:
    """Pendulum passes the conformance checks of interface, seeding and autoreset in the same step."""

    def build(mode: AutoresetMode = AutoresetMode.SAME_STEP, seed: int = 0) -> GymnasiumEnv:
        return GymnasiumEnv(
            "Pendulum-v1", num_envs=3, max_episode_steps=5, vectorization=vectorization, seed=seed
        )

    check_interface(build(), num_envs=3)
    check_seeding(build)
    check_same_step(build(), episode_steps=5)


def test_contract_of_an_environments_own_batch() -> None:
    """CartPole's own batched version resets in the next step, in which its worlds are not live."""

    def build(mode: AutoresetMode = AutoresetMode.NEXT_STEP, seed: int = 0) -> GymnasiumEnv:
        return GymnasiumEnv("CartPole-v1", num_envs=4, max_episode_steps=5, seed=seed)

    assert build().autoreset_mode is AutoresetMode.NEXT_STEP
    check_seeding(build)
    check_next_step(build(), episode_steps=5)


def test_steps_are_those_of_the_environment_itself(make: Make) -> None:
    """Observations, rewards and ends equal those of Pendulum stepped by hand with stretched, clipped
    actions.
    """
    env = started(make("Pendulum-v1", num_envs=2, max_episode_steps=8))
    inner = [gymnasium.make("Pendulum-v1", max_episode_steps=8) for _ in range(2)]
    for copy, one in zip(inner, env.inner.envs, strict=True):
        copy.reset()
        copy.unwrapped.state = one.unwrapped.state.copy()
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        action = 1.5 * torch.randn(2, 1, generator=generator)
        _, reward, terminated, truncated, info = env.step(action)
        for world, copy in enumerate(inner):
            obs, expected, *_ = copy.step(2.0 * action[world].clamp(-1, 1).numpy())
            np.testing.assert_allclose(info["final_obs"][world], obs, atol=1e-6)
            assert float(reward[world]) == pytest.approx(expected, rel=1e-5)
        assert truncated.tolist() == [step == 7] * 2
        assert not terminated.any()
        assert torch.equal(info["reward_terms"][:, 0], reward)


def test_processes_and_turns_give_the_same_steps(make: Make) -> None:
    """Worlds in processes of their own and worlds in turn play the same episodes from the same seed."""
    actions = torch.randn(12, 2, 1, generator=torch.Generator().manual_seed(3))
    played = [
        play(
            started(make("Pendulum-v1", num_envs=2, max_episode_steps=5, vectorization=mode), seed=4), actions
        )
        for mode in BATCHINGS
    ]
    assert all(torch.equal(a, b) for a, b in zip(*played, strict=True))


@pytest.mark.parametrize("vectorization", BATCHINGS)
def test_nested_observations_and_shifted_choices(make: Make, vectorization: str) -> None:
    """A nested observation is one row of numbers, choices count from the space's start, the end is in
    final_obs.
    """
    env = started(make("odd/Odd-v0", num_envs=2, vectorization=vectorization))
    assert env.single_observation_space.shape == (4,)
    assert env.single_action_space == gymnasium.spaces.Discrete(3)
    for step in range(1, 7):
        obs, reward, terminated, truncated, info = env.step(torch.tensor([0, 2]))
        final = [[step, 1, 0, 0], [step, 0, 0, 1]]
        assert info["final_obs"].tolist() == final
        assert reward.tolist() == [1.0, 0.0]
    assert terminated.all() and not truncated.any()
    assert obs.tolist() == [[0, 1, 0, 0]] * 2


def test_choices_may_come_as_rollouts_keep_them(make: Make) -> None:
    """A column of floats is the same as a row of indices, whoever does the batching."""
    for env_id in ("CartPole-v1", "odd/Odd-v0"):
        given = torch.tensor([0, 1, 1]), torch.tensor([[0.0], [1.0], [1.0]])
        rows = [started(make(env_id, num_envs=3)).step(chosen)[0] for chosen in given]
        assert torch.equal(*rows)


def test_worlds_end_at_different_times(make: Make) -> None:
    """`final_obs` holds the last observation of the world that ended and the current one of the others."""
    env = started(make("CartPole-v1", num_envs=2, vectorization="sync"))
    env.inner.envs[1].unwrapped.state[2] = 0.205  # [rad], about to fall
    obs, _, terminated, _, info = env.step(torch.tensor([1, 0]))
    for _ in range(3):
        if terminated[1]:
            break
        obs, _, terminated, _, info = env.step(torch.tensor([1, 0]))
    assert terminated.tolist() == [False, True]
    assert torch.equal(info["final_obs"][0], obs[0])
    assert float(info["final_obs"][1, 2]) > 0.2094
    assert abs(float(obs[1, 2])) < 0.06


def test_success_is_what_the_environment_says(make: Make) -> None:
    """`is_success` of the step that ends an episode is its success, also where the reset comes in the same
    step.
    """
    env = started(make("odd/Odd-v0", num_envs=2, kwargs={"length": 2, "event": "success"}))
    for ended in (False, True) * 2:
        info = env.step(torch.tensor([0, 1]))[4]
        assert (info["success"] & info["_final_obs"]).tolist() == [ended, False]


def test_success_is_a_return_that_reaches_the_registered_threshold(make: Make) -> None:
    """Without a word from the environment the return decides, of this episode alone."""
    env = started(make("odd/Limited-v0", num_envs=3))
    choices = [[0, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    for _ in range(2):
        for step, chosen in enumerate(choices):
            *_, info = env.step(torch.tensor(chosen))
            assert info["success"].tolist() == ([True, True, False] if step == 3 else [False] * 3)


def test_values_that_are_not_finite_are_replaced_and_counted(make: Make) -> None:
    """NaN reaches no policy; the world that gave it is marked in that step."""
    env = started(make("odd/Odd-v0", num_envs=2, kwargs={"event": "nan"}))
    for step in range(1, 5):
        obs, *_, info = env.step(torch.tensor([0, 0]))
        assert obs.isfinite().all()
        assert info["nonfinite"].tolist() == [step == 3] * 2


@pytest.mark.parametrize("vectorization", BATCHINGS)
def test_an_action_that_is_not_finite_starts_its_world_anew(vectorization: str) -> None:
    """That world alone is marked and begins a new episode; the environment never sees the action."""
    both = [GymnasiumEnv("Pendulum-v1", num_envs=2, vectorization=vectorization, seed=0) for _ in range(2)]
    for env in both:
        env.reset()
    for step in range(3):
        action = torch.zeros(2, 1)
        expected, *_ = both[1].step(action)
        action[0] = float("nan") if step == 1 else 0.0
        obs, reward, terminated, _, info = both[0].step(action)
        assert info["nonfinite"].tolist() == terminated.tolist() == [step == 1, False]
        assert info["_final_obs"].tolist() == [step == 1, False]
        assert torch.equal(obs[1], expected[1])
        assert torch.equal(obs[0], expected[0]) is (step == 0)
        assert reward.isfinite().all() and obs.isfinite().all()
    for env in both:
        env.close()


def test_an_absurd_reward_starts_its_world_anew(make: Make) -> None:
    """It is neither passed on nor added to the return; the true one is kept beside."""
    env = started(make("odd/Odd-v0", num_envs=1, kwargs={"event": "fortune", "length": 9}))
    for step in range(1, 7):
        _, reward, terminated, _, info = env.step(torch.tensor([0]))
        is_bad = step % 3 == 0
        assert bool(terminated) is bool(info["nonfinite"]) is is_bad
        assert float(reward) == (0.0 if is_bad else 1.0)
        assert float(info.get("raw", {"reward": reward})["reward"]) == (
            float(np.float32(1e35)) if is_bad else 1
        )


def test_time_limit_and_control_rate_come_from_the_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registered limit, else the one given, else 1000 with a note; `render_fps` is the control rate."""
    assert make("odd/Limited-v0").max_episode_steps == 4
    assert not make("odd/Limited-v0").notes
    assert make("odd/Limited-v0", max_episode_steps=3).max_episode_steps == 3
    unlimited = make("odd/Odd-v0", kwargs={"length": 2000})
    assert unlimited.max_episode_steps == 1000
    assert "without a time limit" in unlimited.notes[0]
    assert unlimited.step_dt_s == 0.25
    monkeypatch.setattr(Odd, "metadata", {"render_modes": ["rgb_array"]})
    assert make("odd/Odd-v0").step_dt_s == 1.0
    env = started(make("odd/Limited-v0", max_episode_steps=3))
    assert [env.step(torch.tensor([0]))[3].item() for _ in range(3)] == [False, False, True]


def test_seeds_next_to_each_other_give_other_worlds(make: Make) -> None:
    """No world of one seed plays the episode of another world of the next seed."""
    env = make("Pendulum-v1", num_envs=4)
    first, second = env.reset(seed=5)[0], env.reset(seed=6)[0]
    assert torch.cdist(first, second).min() > 1e-4


def test_resumed_worlds_play_new_episodes(make: Make) -> None:
    """After `load_state_dict` the first reset is neither that of the start nor left to chance, and a note
    says so.
    """
    env = make("Pendulum-v1", num_envs=2, seed=3)
    start = env.reset()[0]
    play(env, torch.zeros(4, 2, 1))
    state, resumed = env.state_dict(), []
    for _ in range(2):
        other = make("Pendulum-v1", num_envs=2, seed=3)
        assert torch.equal(other.reset()[0], start)
        other.load_state_dict(state)
        other.load_state_dict(state)
        resumed.append(other.reset()[0])
        assert [note for note in other.notes if "new ones start" in note] == list(other.notes)
        assert len(other.notes) == 1
    assert torch.equal(*resumed)
    assert not torch.equal(resumed[0], start)


@pytest.mark.parametrize("vectorization", BATCHINGS)
def test_world_that_fails_is_named_in_one_line(make: Make, vectorization: str) -> None:
    """What a world raises becomes one line, with the traceback kept; closing leaves no process behind."""
    env = started(make("odd/Odd-v0", num_envs=2, kwargs={"event": "error"}, vectorization=vectorization))
    processes = list(getattr(env.inner, "processes", ()))
    with pytest.raises(WorldError) as caught:
        play(env, torch.zeros(3, 2, dtype=torch.int64))
    assert str(caught.value) == "env_id=odd/Odd-v0: a world failed: the wheel came off"
    assert "in _happen" in caught.value.trace
    env.close()
    assert not any(process.is_alive() for process in processes)


def test_process_that_dies_is_a_failure_too(make: Make) -> None:
    """A worker killed from outside ends in the same way, and closing does not wait for it."""
    env = started(make("odd/Odd-v0", num_envs=2, kwargs={"event": "death"}, vectorization="async"))
    with pytest.raises(
        WorldError, match="a world failed: the process of world 0 was killed, perhaps because"
    ):
        play(env, torch.zeros(3, 2, dtype=torch.int64))
    env.close()
    assert not any(process.is_alive() for process in env.inner.processes)


def test_process_that_hangs_is_named_with_its_stack(make: Make) -> None:
    """A worker that does not answer in time ends the batch; the error names world, limit and line of code."""
    env = make("odd/Odd-v0", num_envs=2, kwargs={"event": "hang"}, vectorization="async", step_timeout_s=1.0)
    started(env)
    with pytest.raises(
        WorldError, match=r"did not return within task\.step_timeout_s=1 in world 0"
    ) as caught:
        play(env, torch.zeros(3, 2, dtype=torch.int64))
    assert "odd_worlds.py" in caught.value.trace
    assert "in _happen" in caught.value.trace
    env.close()
    assert not any(process.is_alive() for process in env.inner.processes)


def test_interrupt_is_left_to_the_parent(make: Make) -> None:
    """Ctrl-C reaches worker processes as well; they go on, and this process keeps its own handler."""
    before = signal.getsignal(signal.SIGINT)
    env = started(make("odd/Odd-v0", num_envs=2, vectorization="async"))
    for process in env.inner.processes:
        os.kill(process.pid, signal.SIGINT)
    play(env, torch.zeros(3, 2, dtype=torch.int64))
    assert signal.getsignal(signal.SIGINT) is before
    env.close()
    assert not any(process.is_alive() for process in env.inner.processes)


def test_film_shows_the_environments_own_pictures(make: Make) -> None:
    """A snapshot is the picture of world 0 as it is now; the renderer shows it, cut to even sides."""
    env = started(make("odd/Odd-v0", num_envs=1, render_mode="rgb_array"))
    snapshots = [env.snapshot()]
    env.step(torch.tensor([0]))
    snapshots.append(env.snapshot())
    renderer = env.open_renderer(width=640, height=360, backend="auto")
    frames = renderer.render(snapshots, camera=Camera())
    assert frames.shape == (2, 32, 48, 3)
    assert frames[:, 0, 0, 0].tolist() == [0, 20]


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1", "highway_env:highway-fast-v0"])
def test_real_environments_are_drawn_without_a_screen(make: Make, env_id: str) -> None:
    """Classic control and highway-env draw what is not empty, whichever does the batching."""
    env = started(make(env_id, num_envs=1, render_mode="rgb_array"))
    assert env.snapshot().std() > 3


def test_what_cannot_be_drawn_says_why(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture without `rgb_array`, none where drawing fails, and none where it cannot even be built for
    it.
    """
    env = started(make("odd/Odd-v0", num_envs=1, render_mode="rgb_array"))
    monkeypatch.setattr(Odd, "render", lambda self: None)
    with pytest.raises(RenderingUnavailableError, match="env_id=odd/Odd-v0: it draws no rgb_array pictures"):
        env.snapshot()
    monkeypatch.setattr(Odd, "render", lambda self: 1 / 0)
    with pytest.raises(RenderingUnavailableError, match="env_id=odd/Odd-v0: division by zero"):
        env.snapshot()
    with pytest.raises(RenderingUnavailableError, match="unexpected keyword argument 'gg'"):
        make("Pendulum-v1", kwargs={"gg": 1}, render_mode="rgb_array")


@pytest.mark.parametrize(
    ("env_id", "keywords", "expected"),
    [
        ("odd/Blind-v0", {}, "env_id=odd/Blind-v0: its observations hold pictures"),
        ("odd/Blind-v0", {"vectorization": "async"}, "its observations hold pictures"),
        ("odd/ManyHanded-v0", {}, "env_id=odd/ManyHanded-v0: its actions are MultiDiscrete"),
        ("Nowhere-v0", {}, "env_id=Nowhere-v0: Environment `Nowhere` doesn't exist"),
        ("nowhere_at_all:X-v0", {}, "No module named 'nowhere_at_all'; install the package it is in"),
        ("Pendulum-v1", {"vectorization": "vector_entry_point"}, "it has no batched version of its own"),
    ],
)
def test_environment_that_cannot_be_learned_is_refused(
    make: Make, env_id: str, keywords: dict[str, Any], expected: str
) -> None:
    """The message names the id and what is in the way."""
    before = multiprocessing.active_children()
    with pytest.raises(ValueError) as caught:
        make(env_id, **keywords)
    assert expected in str(caught.value)
    assert multiprocessing.active_children() == before
