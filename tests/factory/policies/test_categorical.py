"""The distribution over choices against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch.distributions import Categorical as Reference

from factory.policies.categorical import Categorical
from factory.policies.distribution import for_space
from factory.policies.gaussian import Gaussian
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig


@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 6, 4)])
def test_log_prob_entropy_and_mode_are_those_of_the_library(shape: tuple[int, ...]) -> None:
    """They agree for any leading dimensions, and for logits far apart."""
    torch.manual_seed(0)
    logits = 20.0 * torch.randn(shape)
    action = torch.randint(4, shape[:-1])
    ours, theirs = Categorical(4), Reference(logits=logits)
    torch.testing.assert_close(ours.log_prob(logits, action[..., None].float()), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(logits), theirs.entropy())
    assert torch.equal(ours.mode(logits), theirs.mode)


def test_gradients_are_those_of_the_library() -> None:
    """Log-probability and entropy give the logits the library's gradients."""
    torch.manual_seed(1)
    logits, action = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    grads = []
    for loss in (
        lambda x: (Categorical(3).log_prob(x, action[:, None].float()) + Categorical(3).entropy(x)).sum(),
        lambda x: (Reference(logits=x).log_prob(action) + Reference(logits=x).entropy()).sum(),
    ):
        leaf = logits.clone().requires_grad_()
        grads += torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(*grads)


def test_samples_have_the_softmax_frequencies() -> None:
    """Of 40000 draws each choice gets its share, within four standard errors; the generator decides them."""
    logits = torch.tensor([2.0, 0.0, -1.0, 0.5]).expand(40_000, 4)
    draw = lambda seed: Categorical(4).sample(logits, torch.Generator().manual_seed(seed))  # noqa: E731
    found = draw(0)
    assert found.dtype == torch.int64
    assert found.shape == (40_000,)
    share = logits[0].softmax(-1)
    error = (share * (1 - share) / 40_000).sqrt()
    assert ((found.bincount(minlength=4) / 40_000 - share).abs() < 4 * error).all()
    assert torch.equal(found, draw(0))
    assert not torch.equal(found, draw(1))


def test_action_space_chooses_the_distribution() -> None:
    """A Box gives a Gaussian, a Discrete space a categorical one; the token says which."""
    assert isinstance(for_space(Box(-1.0, 1.0, (3,)), init_std=0.5), Gaussian)
    assert isinstance(for_space(Discrete(3), init_std=0.5), Categorical)
    policy = build()
    assert (policy.token_spec.kind, policy.token_spec.act_dim) == ("categorical", 3)


def test_policy_gives_indices_and_agrees_with_itself() -> None:
    """`act` gives indices with their log-probabilities, which `evaluate` repeats; the mode is the argmax."""
    policy = build()
    obs = {"policy": torch.randn(7, 2), "critic": torch.randn(7, 2)}
    action, extras, _ = policy.act(obs, policy.initial_state(7))
    log_prob = extras["log_prob"]
    assert (action.dtype, action.shape) == (torch.int64, (7,))
    found = policy.evaluate(policy.normalize(obs), action[:, None].float())
    torch.testing.assert_close(found.log_prob, log_prob)
    assert found.entropy.shape == (7,)
    likeliest, _ = policy.act_deterministic(obs, policy.initial_state(7))
    assert torch.equal(likeliest, policy.actor(policy.obs_normalizer(obs["policy"])).argmax(-1))


def build() -> MlpPolicy:
    """Return a policy with three choices and an actor that is far from zero."""
    torch.manual_seed(7)
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[8], critic_hidden=[8]),
        obs_size=2,
        critic_obs_size=2,
        action_space=Discrete(3),
        control_hz=50.0,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        policy.actor[-1].weight.mul_(200.0)
    return policy
