"""The conformance check names the faults that people make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorWrapper

from factory.envs.core.check import check_vector_env
from factory.envs.tasks.cartpole import CartpoleSwingup

Step = tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]


class Planted(VectorWrapper):
    """The cart-pole with a fault in what `step` returns."""

    def __init__(self, env: Any, fault: Callable[[Planted, Step], Step]) -> None:
        super().__init__(env)
        self.fault = fault
        self.kept: dict[str, torch.Tensor] = {}

    def step(self, actions: Any) -> Any:
        return self.fault(self, self.env.step(actions))  # type: ignore[arg-type]

    def reuse(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Return the same tensor at every step, with new content."""
        return self.kept.setdefault(name, value.clone()).copy_(value)


def without(info: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name != key}


def rows(step: Step, **changes: Any) -> Step:
    """Return a step with some of its parts replaced."""
    names = ("obs", "reward", "terminated", "truncated", "info")
    parts = dict(zip(names, step, strict=True)) | changes
    return tuple(parts[name] for name in names)  # type: ignore[return-value]


FAULTS: dict[str, tuple[Callable[[Planted, Step], Step], str]] = {
    "reward in float64": (
        lambda env, step: rows(step, reward=step[1].double()),
        r"reward is torch\.float64, must be torch\.float32",
    ),
    "reward with a column": (
        lambda env, step: rows(step, reward=step[1][:, None]),
        r"reward has shape \(4, 1\), must be \(4,\)",
    ),
    "reward as an array": (
        lambda env, step: rows(step, reward=step[1].numpy()),
        "reward is a ndarray, no tensor",
    ),
    "reward that is not finite": (
        lambda env, step: rows(step, reward=step[1] * torch.nan),
        "reward is not finite",
    ),
    "flags as numbers": (
        lambda env, step: rows(step, terminated=step[2].float()),
        r"terminated is torch\.float32, must be torch\.bool",
    ),
    "observation outside its space": (
        lambda env, step: rows(step, obs=step[0] * torch.nan),
        r"step\(\) returned an observation outside the space",
    ),
    "observation in float64": (
        lambda env, step: rows(step, obs=step[0].double()),
        r"step\(\) returned an observation outside the space",
    ),
    "no final_obs": (
        lambda env, step: rows(step, info=without(step[4], "final_obs")),
        "info without 'final_obs'",
    ),
    "no mask of final_obs": (
        lambda env, step: rows(step, info=without(step[4], "_final_obs")),
        "info without '_final_obs'",
    ),
    "final_obs of the next episode": (
        lambda env, step: rows(step, info=step[4] | {"final_obs": step[0]}),
        "a finished world was not reset",
    ),
    "no mask of live worlds": (
        lambda env, step: rows(step, info=without(step[4], "live")),
        "info without 'live'",
    ),
    "time limit as terminated": (
        lambda env, step: rows(step, terminated=step[3], truncated=step[2]),
        "a time limit must set truncated instead",
    ),
    "time limit as both": (
        lambda env, step: rows(step, terminated=step[2] | step[3]),
        "a time limit must set truncated instead",
    ),
    "no time limit": (
        lambda env, step: rows(step, truncated=torch.zeros_like(step[3])),
        "the time limit did not set truncated",
    ),
    "time limit from the start": (
        lambda env, step: rows(step, truncated=torch.ones_like(step[3])),
        "truncated before the time limit, at step 1",
    ),
    "observation reused": (
        lambda env, step: rows(step, obs=env.reuse("obs", step[0])),
        r"step\(\) changed the observation returned before",
    ),
    "reward reused": (
        lambda env, step: rows(step, reward=env.reuse("reward", step[1])),
        r"step\(\) changed the reward returned before",
    ),
    "noise without a seed": (
        lambda env, step: rows(
            step, reward=step[1] + torch.from_numpy(np.random.default_rng().random(4)).float()
        ),
        "equal seeds gave other trajectories",
    ),
    "success without its flag": (
        lambda env, step: rows(step, info=without(step[4], "success")),
        "defines_success is True",
    ),
    "a reward term too few": (
        lambda env, step: rows(step, info=step[4] | {"reward_terms": step[4]["reward_terms"][:, 1:]}),
        r"info\['reward_terms'\] has shape \(4, 2\), must be \(4, 3\)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_named(name: str) -> None:
    """What `step` returns wrongly is refused with a message that says what it is."""
    fault, message = FAULTS[name]
    with pytest.raises(AssertionError, match=message):
        check_vector_env(lambda **settings: Planted(CartpoleSwingup(**settings), fault))


class DeafCartpole(CartpoleSwingup):
    """Ignores its actions."""

    def _apply_action(self, action: torch.Tensor) -> None:
        super()._apply_action(torch.zeros_like(action))


class FixedCartpole(CartpoleSwingup):
    """Starts every episode in the same state, whatever the seed."""

    def _reset_envs(self, mask: torch.Tensor) -> None:
        start = torch.zeros_like(self._qpos)
        self._write_state(start, torch.zeros_like(self._qvel), mask)


class OneForAll(CartpoleSwingup):
    """Resets every world whenever one is to be reset."""

    def _reset_envs(self, mask: torch.Tensor) -> None:
        super()._reset_envs(torch.ones_like(mask))


class Unlabelled(VectorWrapper):
    """Does not tell its autoreset mode."""

    @property
    def metadata(self) -> dict[str, Any]:
        return {"autoreset_mode": "same_step"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (DeafCartpole, "opposite actions changed nothing"),
        (FixedCartpole, "another seed changed nothing"),
        (OneForAll, "a world outside the mask changed"),
        (lambda **settings: Unlabelled(CartpoleSwingup(**settings)), "no AutoresetMode"),
        (
            lambda **settings: CartpoleSwingup(**settings | {"autoreset_mode": AutoresetMode.SAME_STEP}),
            "the resetting step must give reward 0",
        ),
        (lambda **settings: CartpoleSwingup(**settings | {"num_envs": 3}), "num_envs is 3, built with 4"),
    ],
)
def test_fault_of_a_task_is_named(make: Callable[..., Any], message: str) -> None:
    """So are faults in how a task resets, acts and is built."""
    with pytest.raises(AssertionError, match=message):
        check_vector_env(make)


def test_success_says_what_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """The script of a new task prints more than nothing."""
    check_vector_env(CartpoleSwingup)
    out = capsys.readouterr().out
    assert out.startswith("4 environments conform to gymnasium.vector.VectorEnv; checked:\n")
    assert "NEXT_STEP" in out and "final_obs" in out
