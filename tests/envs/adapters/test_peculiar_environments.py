"""Environments with properties that published packages have are trained, or refused in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import peculiar_worlds  # noqa: F401  registers them
import pytest
import torch

from factory import options
from factory.cli import single_job
from factory.envs.adapters.gymnasium_config import GymnasiumConfig
from factory.envs.adapters.gymnasium_env import GymnasiumEnv
from factory.envs.core.errors import WorldError
from factory.training.build import make_env

opened: list[GymnasiumEnv] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    """Close the environments of a test after it."""
    yield
    while opened:
        opened.pop().close()


def make(name: str, **keywords: Any) -> GymnasiumEnv:
    env = GymnasiumEnv(f"peculiar/{name}-v0", num_envs=2, seed=0, **keywords)
    opened.append(env)
    env.reset()
    return env


@pytest.mark.parametrize("action", [-7.0, -1.0, 0.0, 1.0, 7.0])
def test_actions_lie_within_float64_bounds(action: float) -> None:
    """An environment with bounds that float32 rounds outward accepts every action, to within a rounding of
    them.
    """
    env = make("Guarded")
    obs, *_ = env.step(torch.full((2, 2), action))
    expected = 2 * np.clip(0.1 + 0.2 * action, -0.1, 0.3)
    assert obs[:, 1].tolist() == pytest.approx([expected] * 2, abs=1e-6)


def test_bounds_that_float32_holds_are_reached_exactly() -> None:
    """A saturated action is the bound itself."""
    assert make("Walker").step(torch.full((2, 1), 3.0))[0][:, 1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_action_and_observation_without_dimensions(vectorization: str) -> None:
    """The policy acts and sees in one dimension; the environment gets and gives plain numbers."""
    env = make("OneKnob", vectorization=vectorization)
    assert env.single_action_space.shape == env.single_observation_space.shape == (1,)
    assert env.step(torch.tensor([[0.5], [-9.0]]))[0].tolist() == [[1.0], [-2.0]]


def test_seeds_fit_31_bits() -> None:
    """No seed of a run exceeds what simulators with 32 signed bits take, in any of its worlds."""
    env = make("ShortSeed")
    for seed in (0, 7, 2**31 - 1, 2**32 + 1, *range(100, 140)):
        env.reset(seed=seed)


@pytest.mark.parametrize(("both", "expected"), [(True, True), (False, False)])
def test_an_array_of_flags_is_a_success_if_all_are_set(both: bool, expected: bool) -> None:
    """Two hands that arrive are a success, one alone is not."""
    env = make("TwoHands", kwargs={"both": both})
    for _ in range(5):
        *_, info = env.step(torch.zeros(2, 1))
    assert (info["success"] & info["_final_obs"]).tolist() == [expected] * 2


def test_success_is_defined_by_reporting_it_and_nothing_falls() -> None:
    """An environment that reports success has a success rate; its terminated episodes are no falls."""
    reporting, silent = make("Traveller"), make("Walker")
    for env in (reporting, silent):
        env.step(torch.zeros(2, 1))
    assert (reporting.defines_success, silent.defines_success) == (True, False)
    assert not reporting.defines_fall and not silent.defines_fall


def test_text_is_refused_unless_a_wrapper_leaves_it_out() -> None:
    """The refusal names the remedy, and the remedy works."""
    with pytest.raises(ValueError, match=r"hold text, which no policy here can read; .* task\.wrappers="):
        make("Reader")
    env = make("Reader", wrapper_names=["peculiar_worlds:numbers_only"])
    assert env.step(torch.zeros(2, 1))[0].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ("no_such_module:Wrapper", "task.wrappers=no_such_module:Wrapper: No module named 'no_such_module'"),
        ("peculiar_worlds:Nothing", "module 'peculiar_worlds' has no attribute 'Nothing'"),
    ],
)
def test_wrapper_that_does_not_exist_is_named(wrapper: str, expected: str) -> None:
    """The message holds the setting, the value and what is missing."""
    with pytest.raises(ValueError) as caught:
        make("Walker", wrapper_names=[wrapper])
    assert expected in str(caught.value)


def test_wrapper_without_a_module_is_refused_before_anything_is_built() -> None:
    """A setting that is no `module:Wrapper` is a mistake of the configuration."""
    with pytest.raises(ValueError, match=r"task\.wrappers=Flatten: give module:Wrapper"):
        GymnasiumConfig(env_id="peculiar/Walker-v0", wrappers=["Flatten"])


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_failure_without_a_message_has_type_and_place(vectorization: str) -> None:
    """An assertion without text is found by file, line and function, also in another process."""
    env = make("Mute", kwargs={"at_once": False}, vectorization=vectorization)
    with pytest.raises(
        WorldError, match=r"AssertionError without .* in peculiar_worlds.py, line \d+ \(report"
    ):
        env.step(torch.zeros(2, 1))


def test_failure_to_build_without_a_message_has_type_and_place() -> None:
    """The same holds for the constructor."""
    with pytest.raises(ValueError, match=r"AssertionError .* in peculiar_worlds.py, line \d+ \(__init__\)"):
        make("Mute")


def test_batched_version_that_takes_no_time_limit_is_passed_over() -> None:
    """`auto` takes single environments instead, with their limit; asked for by name, it is refused in one
    line.
    """
    env = make("Batch", max_episode_steps=3)
    assert env.physics_name == "gymnasium sync"
    assert [bool(env.step(torch.zeros(2, 1))[3].all()) for _ in range(3)] == [False, False, True]
    with pytest.raises(ValueError, match="its own batched version takes no max_episode_steps"):
        make("Batch", vectorization="vector_entry_point")


def test_wrappers_of_a_training_job_reach_the_environment() -> None:
    """`task.wrappers` on a command line wraps each environment, also where a batched version exists."""
    options.register()
    wrapper = "task.wrappers=[gymnasium.wrappers:FlattenObservation]"
    cfg = single_job(["task=gymnasium", "env_id=CartPole-v1", "num_envs=2", wrapper])
    with contextlib.closing(make_env(cfg, num_envs=2)) as env:
        names = [type(part).__name__ for part in env.inner.envs]  # type: ignore[attr-defined]
    assert names == ["FlattenObservation"] * 2
