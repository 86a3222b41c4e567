"""Our Adam beside torch's."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.learners.adam import Adam


@given(
    size=st.integers(1, 300),
    steps=st.integers(1, 30),
    scale=st.sampled_from([1e-6, 1e-2, 1.0, 1e3]),
    eps=st.sampled_from([1e-8, 1e-5]),
    seed=st.integers(0, 2**16),
)
def test_steps_equal_those_of_torch(size: int, steps: int, scale: float, eps: float, seed: int) -> None:
    """With changing step sizes and gradients of any scale, parameters equal those of `torch.optim.Adam`."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(size, generator=generator)
    ours = start.clone()
    theirs = start.clone().requires_grad_()
    adam = Adam(ours, eps=eps)
    reference = torch.optim.Adam([theirs], lr=1.0, eps=eps)
    for step in range(steps):
        grad = scale * torch.randn(size, generator=generator)
        learning_rate = 1e-3 * (1.0 + step)
        adam.step(grad, learning_rate=torch.tensor(learning_rate))
        theirs.grad = grad.clone()
        reference.param_groups[0]["lr"] = learning_rate
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_state_is_all_there_is() -> None:
    """An optimizer with another's moments and step count makes the same next step."""
    first = Adam(torch.ones(4))
    for value in (1.0, -2.0, 0.5):
        first.step(torch.full((4,), value), learning_rate=torch.tensor(0.1))
    second = Adam(first.parameters.clone())
    for name, tensor in second.state().items():
        tensor.copy_(first.state()[name])
    for adam in (first, second):
        adam.step(torch.full((4,), 3.0), learning_rate=torch.tensor(0.1))
    assert torch.equal(first.parameters, second.parameters)
