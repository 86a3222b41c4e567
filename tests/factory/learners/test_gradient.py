"""The compiled gradient of PPO's loss beside autograd's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from factory.learners.gradient import AutogradGradient, NumbaGradient, Samples, make_gradient
from factory.learners.ppo import Ppo
from factory.learners.ppo_config import PpoConfig
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig

COEFFICIENTS = {"clip_coef": 0.2, "value_coef": 0.7, "entropy_coef": 0.01}


def build(
    *, obs: int = 5, critic_obs: int = 5, actions: int = 3, **config: Any
) -> tuple[MlpPolicy, list[nn.Parameter], Tensor]:
    """Return a policy, its parameters, and the tensor of which they are views."""
    torch.manual_seed(0)
    policy = MlpPolicy(
        MlpPolicyConfig(**{"actor_hidden": [20, 9], "critic_hidden": [17], **config}),
        obs_size=obs,
        critic_obs_size=critic_obs,
        action_space=Box(-1.0, 1.0, (actions,)),
        control_hz=50.0,
        generator=torch.Generator(),
    )
    learner = Ppo(PpoConfig(), policy, generator=torch.Generator())
    learner.flat += 0.1 * torch.randn_like(learner.flat)
    return policy, learner.parameters, learner.flat


def minibatch(
    policy: MlpPolicy, *, rows: int = 301, critic_obs: int = 0
) -> tuple[dict[str, Tensor], Samples]:
    """Return samples, some of them clipped and some not live; without `critic_obs` both networks see the
    same.
    """
    spec = policy.token_spec
    batch = {"policy": torch.randn(rows, spec.obs_dim), "action": torch.randn(rows, spec.act_dim)}
    if critic_obs:
        batch["critic"] = torch.randn(rows, critic_obs)
    old = policy.evaluate(batch, batch["action"]).log_prob.detach() + 0.3 * torch.randn(rows)
    advantage = torch.randn(rows)
    bound = advantage + 0.2 * advantage.abs()
    live = (torch.rand(rows) < 0.9).float()
    return batch, Samples(old, advantage, bound, torch.randn(rows), live)


def gradients(policy: tuple[Any, ...], batch: dict[str, Tensor], numbers: Samples) -> list[Tensor]:
    return [way(*policy, **COEFFICIENTS)(batch, numbers) for way in (AutogradGradient, NumbaGradient)]


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
@pytest.mark.parametrize("critic_obs", [0, 8])
@pytest.mark.parametrize("rows", [1, 128, 301])
def test_compiled_gradient_is_autograds(activation: str, critic_obs: int, rows: int) -> None:
    """Gradients by every parameter, and the figures beside them."""
    policy = build(critic_obs=critic_obs or 5, activation=activation)
    one, other = gradients(policy, *minibatch(policy[0], rows=rows, critic_obs=critic_obs))
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-3)
    assert one.abs().max() > 0


def test_large_networks_are_done_in_another_order_with_the_same_result() -> None:
    """Where weights fill the cache, all samples go forward before they go back."""
    policy = build(actor_hidden=[256, 128], critic_hidden=[256, 128])
    one, other = gradients(policy, *minibatch(policy[0], rows=700))
    torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)


def test_number_of_threads_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share the samples, and there may be more of them than blocks."""
    policy = build()
    batch, numbers = minibatch(policy[0])
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(NumbaGradient(*policy, **COEFFICIENTS)(batch, numbers))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("group", ["policy", "action", "numbers"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_reaches_the_gradient(group: str, bad: float) -> None:
    """PPO skips a step by looking at its gradient, so nothing may hide an accident from it."""
    policy = build(activation="relu")
    batch, numbers = minibatch(policy[0])
    numbers.live.fill_(1.0)
    (numbers.advantage if group == "numbers" else batch[group][7]).fill_(bad)
    for gradient in gradients(policy, batch, numbers):
        assert not gradient[:-6].isfinite().all()


def test_the_way_follows_from_the_policy() -> None:
    """Gaussian perceptrons in float32 are compiled; whatever else there is goes through autograd."""
    policy = build()
    assert isinstance(make_gradient(*policy, **COEFFICIENTS), NumbaGradient)
    assert isinstance(make_gradient(*build(precision="bfloat16"), **COEFFICIENTS), AutogradGradient)
    discrete = MlpPolicy(
        MlpPolicyConfig(),
        obs_size=2,
        critic_obs_size=2,
        action_space=Discrete(3),
        control_hz=50.0,
        generator=torch.Generator(),
    )
    assert isinstance(
        make_gradient(discrete, list(discrete.parameters()), policy[-1], **COEFFICIENTS), AutogradGradient
    )


def test_frozen_parameters_go_through_autograd() -> None:
    """What is not learned is left out of the gradient."""
    torch.manual_seed(0)
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[8], critic_hidden=[8]),
        obs_size=2,
        critic_obs_size=2,
        action_space=Box(-1.0, 1.0, (1,)),
        control_hz=50.0,
        generator=torch.Generator(),
    )
    policy.actor[0].requires_grad_(False)
    learner = Ppo(PpoConfig(), policy, generator=torch.Generator())
    way = make_gradient(policy, learner.parameters, learner.flat, **COEFFICIENTS)
    assert isinstance(way, AutogradGradient)
    assert way(*minibatch(policy)).shape == (len(learner.flat) + 6,)


def test_shapes_that_do_not_fit_are_refused() -> None:
    """Kernels do not look where they write, so somebody else has to."""
    policy = build()
    batch, numbers = minibatch(policy[0])
    gradient = NumbaGradient(*policy, **COEFFICIENTS)
    for name, value in (
        ("policy", torch.randn(301, 4)),
        ("action", torch.randn(301, 2)),
        ("action", torch.randn(9, 3)),
    ):
        with pytest.raises(ValueError, match="expected contiguous float32"):
            gradient(batch | {name: value}, numbers)
    with pytest.raises(ValueError, match="expected contiguous float32"):
        gradient(batch, numbers._replace(live=numbers.live[:4]))
