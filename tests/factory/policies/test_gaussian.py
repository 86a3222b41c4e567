"""The action distribution against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal

from factory.policies import gaussian


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3)])
def test_log_prob_and_entropy_are_those_of_independent_normals(shape: tuple[int, ...]) -> None:
    """Density and entropy agree with the library's for any leading dimensions."""
    torch.manual_seed(0)
    action, mean, log_std = torch.randn(shape), torch.randn(shape), torch.tensor([-1.5, 0.0, 0.7])
    reference = Independent(Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(gaussian.log_prob(action, mean, log_std), reference.log_prob(action))
    entropy = gaussian.entropy(log_std)
    assert entropy.shape == ()
    torch.testing.assert_close(entropy.expand(shape[:-1]), reference.entropy())


def test_gradients_are_those_of_independent_normals() -> None:
    """Mean and deviation receive the library's gradients."""
    torch.manual_seed(1)
    action = torch.randn(4, 2)
    grads = []
    for density in (gaussian.log_prob, lambda a, m, s: Independent(Normal(m, s.exp()), 1).log_prob(a)):
        mean, log_std = (
            torch.full((4, 2), 0.3, requires_grad=True),
            torch.full((2,), -0.4, requires_grad=True),
        )
        grads.append(torch.autograd.grad(density(action, mean, log_std).sum(), (mean, log_std)))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)
