"""The compiled gradient of PPO's loss beside autograd's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from factory.learners.ppo import Ppo, PpoConfig
from factory.learners.surrogate import Autograd, Compiled, gradient_of
from factory.policies.mlp import MlpPolicy, MlpPolicyConfig

COEFFICIENTS = {"clip_coef": 0.2, "value_coef": 0.7, "entropy_coef": 0.01}


def build(*, obs: int = 5, critic_obs: int = 5, actions: int = 3, **config: Any) -> tuple[MlpPolicy, Tensor]:
    """Return a policy and all its parameters in one tensor."""
    torch.manual_seed(0)
    policy = MlpPolicy(
        MlpPolicyConfig(**{"actor_hidden": [20, 9], "critic_hidden": [17], **config}), obs_size=obs,
        critic_obs_size=critic_obs, action_space=Box(-1.0, 1.0, (actions,)), control_hz=50.0,
        generator=torch.Generator(),
    )  # fmt: skip
    flat = Ppo(PpoConfig(), policy, generator=torch.Generator()).flat
    flat += 0.1 * torch.randn_like(flat)
    return policy, flat


def minibatch(policy: MlpPolicy, *, rows: int = 301, critic_obs: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Return samples, some of them clipped and some not live; without `critic_obs` both networks see the same."""
    spec = policy.token_spec
    batch = {"policy": torch.randn(rows, spec.obs_dim), "action": torch.randn(rows, spec.act_dim)}
    if critic_obs:
        batch["critic"] = torch.randn(rows, critic_obs)
    old = policy.evaluate(batch, batch["action"]).log_prob.detach() + 0.3 * torch.randn(rows)
    advantage = torch.randn(rows)
    bound = advantage + 0.2 * advantage.abs()
    live = (torch.rand(rows) < 0.9).float()
    return batch, torch.stack([old, advantage, bound, torch.randn(rows), live])


def gradients(policy: MlpPolicy, flat: Tensor, batch: dict[str, Tensor], numbers: Tensor) -> list[Tensor]:
    return [way(policy, flat, **COEFFICIENTS)(batch, numbers) for way in (Autograd, Compiled)]


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
@pytest.mark.parametrize("critic_obs", [0, 8])
@pytest.mark.parametrize("rows", [1, 128, 301])
def test_compiled_gradient_is_autograds(activation: str, critic_obs: int, rows: int) -> None:
    """Gradients by every parameter, and the figures beside them."""
    policy, flat = build(critic_obs=critic_obs or 5, activation=activation)
    one, other = gradients(policy, flat, *minibatch(policy, rows=rows, critic_obs=critic_obs))
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-3)
    assert one.abs().max() > 0


def test_large_networks_are_done_in_another_order_with_the_same_result() -> None:
    """Where weights fill the cache, all samples go forward before they go back."""
    policy, flat = build(actor_hidden=[256, 128], critic_hidden=[256, 128])
    one, other = gradients(policy, flat, *minibatch(policy, rows=700))
    torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)


def test_number_of_threads_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share the samples, and there may be more of them than blocks."""
    policy, flat = build()
    batch, numbers = minibatch(policy)
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(Compiled(policy, flat, **COEFFICIENTS)(batch, numbers))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("group", ["policy", "action", "numbers"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_reaches_the_gradient(group: str, bad: float) -> None:
    """PPO skips a step by looking at its gradient, so nothing may hide an accident from it."""
    policy, flat = build(activation="relu")
    batch, numbers = minibatch(policy)
    numbers[4] = 1.0
    (numbers[1] if group == "numbers" else batch[group][7]).fill_(bad)
    for gradient in gradients(policy, flat, batch, numbers):
        assert not gradient[:-6].isfinite().all()


def test_the_way_follows_from_the_policy() -> None:
    """Gaussian perceptrons in float32 are compiled; whatever else there is goes through autograd."""
    policy, flat = build()
    assert isinstance(gradient_of(policy, flat, **COEFFICIENTS), Compiled)
    assert isinstance(gradient_of(*build(precision="bfloat16"), **COEFFICIENTS), Autograd)
    discrete = MlpPolicy(
        MlpPolicyConfig(), obs_size=2, critic_obs_size=2, action_space=Discrete(3), control_hz=50.0,
        generator=torch.Generator(),
    )  # fmt: skip
    assert isinstance(gradient_of(discrete, flat, **COEFFICIENTS), Autograd)
