"""The guard goes back to the last good state, and health says when learning must stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box

from factory.learners.ppo import Ppo
from factory.learners.ppo_config import PpoConfig
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig
from factory.training.guard import Guard, is_finite
from factory.training.health import MAX_ROLLBACKS_IN_A_ROW, RECENT_ITERATIONS, Health


def build() -> tuple[Guard, MlpPolicy, Ppo]:
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[4], critic_hidden=[4]),
        obs_size=3,
        critic_obs_size=3,
        action_space=Box(-1.0, 1.0, (2,)),
        control_hz=50.0,
        generator=torch.Generator().manual_seed(0),
    )
    learner = Ppo(PpoConfig(learning_rate=4e-3), policy, generator=torch.Generator().manual_seed(1))
    return Guard(policy, learner), policy, learner


def numbers(policy: MlpPolicy, learner: Ppo) -> dict[str, torch.Tensor]:
    state = {name: value.clone() for name, value in policy.state_dict().items()}
    return state | {f"learner/{name}": value for name, value in learner.state_dict().items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "broken",
    [
        lambda policy, learner: policy.actor[0].weight,
        lambda policy, learner: policy.distribution.log_std,
        lambda policy, learner: policy.obs_normalizer.var,
        lambda policy, learner: policy.return_normalizer.mean,
        lambda policy, learner: learner.adam.square,
        lambda policy, learner: learner.learning_rate,
    ],
)
def test_any_number_that_is_not_finite_undoes_the_update(broken: Any, value: float) -> None:
    """Weights, statistics and step count are as before it; moments start anew and the step size halves."""
    guard, policy, learner = build()
    learner.adam.step(torch.ones_like(learner.flat), learning_rate=learner.learning_rate)
    assert float(guard.check()) == 1.0
    guard.keep()
    good = numbers(policy, learner)
    learner.flat.add_(1.0)
    with torch.no_grad():
        broken(policy, learner).view(-1)[0] = value
    assert float(guard.check()) == 0.0
    guard.go_back()
    found = numbers(policy, learner)
    for name, expected in good.items():
        if name.startswith("learner/adam/"):
            assert not found[name].any()
        elif name in ("learner/learning_rate", "learner/step_scale"):
            assert torch.equal(found[name], expected * 0.5)
        else:
            assert torch.equal(found[name], expected), name


def test_going_back_twice_quarters_the_step_size() -> None:
    """The second update in a row that breaks is followed by smaller steps than the first."""
    guard, _, learner = build()
    for _ in range(2):
        learner.flat[0] = float("nan")
        assert float(guard.check()) == 0.0
        guard.go_back()
        assert learner.flat.isfinite().all()
    assert float(learner.learning_rate) == pytest.approx(1e-3)


def test_a_learner_without_state_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy is restored, and the learner is handed what it gave."""
    _, policy, learner = build()
    handed: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(learner, "state_dict", dict)
    monkeypatch.setattr(learner, "load_state_dict", handed.append)
    guard = Guard(policy, learner)
    good = learner.flat.clone()
    learner.flat[0] = float("nan")
    assert float(guard.check()) == 0.0
    guard.go_back()
    assert handed == [{}]
    assert torch.equal(learner.flat, good)


def test_large_finite_numbers_are_finite() -> None:
    """Their sum does not overflow; integers are no part of the question."""
    part = {"weights": torch.full((4,), 3e38), "generator": torch.zeros(8, dtype=torch.uint8)}
    assert bool(is_finite({"policy": part}))
    assert bool(is_finite({}))


def after(health: Health, *, bad: float = 0.0, skipped: float = 0.0, is_finite: bool = True) -> Health:
    """Return the health after an iteration of 100 samples and 8 gradient steps."""
    learned = {"skipped": skipped, "gradient_steps": 8.0, "discarded": bad / 2}
    return health.advance({"nonfinite": bad / 2}, learned, steps=100, is_finite=is_finite)


def test_rollbacks_in_a_row_stop_and_others_do_not() -> None:
    """An update that lasts starts the count anew; the total goes on."""
    health = Health()
    for _ in range(MAX_ROLLBACKS_IN_A_ROW - 1):
        health = after(health, is_finite=False)
        assert not health.problem()
    health = after(health)
    for _ in range(MAX_ROLLBACKS_IN_A_ROW):
        assert not health.problem()
        health = after(health, is_finite=False)
    assert f"{MAX_ROLLBACKS_IN_A_ROW} updates in a row" in health.problem()
    assert health.rollbacks == 2 * MAX_ROLLBACKS_IN_A_ROW - 1
    assert not health.forgiven().problem()


@pytest.mark.parametrize(("found", "word"), [({"bad": 60.0}, "samples"), ({"skipped": 5.0}, "gradient")])
def test_most_of_the_last_iterations_left_out_stops(found: dict[str, float], word: str) -> None:
    """Only a share over all of them counts, or over those there were at the end of the training."""
    health = Health()
    for _ in range(RECENT_ITERATIONS - 1):
        health = after(health, **found)
        assert not health.problem()
        assert word in health.problem(at_end=True)
    health = after(health, **found)
    assert word in health.problem()
    for _ in range(2):
        health = after(health)
    assert not health.problem()


def test_some_bad_samples_never_stop() -> None:
    """One world in 64 that is always bad is counted, and learning goes on."""
    health = Health()
    for _ in range(100):
        health = after(health, bad=2.0)
        assert not health.problem(at_end=True)
    assert health.metrics() == {
        "health/bad_samples": 200.0,
        "health/skipped_steps": 0.0,
        "health/rollbacks": 0.0,
    }


def test_health_survives_a_checkpoint(tmp_path: Path) -> None:
    """All counts come back from JSON as they were."""
    health = after(after(Health(), bad=3.0, skipped=1.0), is_finite=False)
    assert Health.from_plain(json.loads(json.dumps(health.to_plain()))) == health
