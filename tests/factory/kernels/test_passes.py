"""Compiled passes of a perceptron beside the same in float64, layer by layer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from factory import kernels

ACTIVATIONS = {"tanh": nn.Tanh, "elu": nn.ELU, "relu": nn.ReLU}
few = settings(max_examples=40, deadline=None)
layer_sizes = st.lists(st.integers(1, 40), min_size=3, max_size=5)


def network(sizes: list[int], activation: str) -> nn.Sequential:
    """Return layers in float64."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1]).double()


def flat(net: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).float().numpy()


def both(
    sizes: list[int], activation: str, rows: int, threads: int, seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return output, parameter gradients and input gradients: exact ones, and those of the kernels."""
    torch.manual_seed(seed)
    net = network(sizes, activation)
    x, grad = torch.randn(rows, sizes[0]), torch.randn(rows, sizes[-1])
    exact_x = x.double().requires_grad_()
    exact = net(exact_x)
    exact_grads = torch.autograd.grad(exact, [exact_x, *net.parameters()], grad.double())
    out, hidden = kernels.forward(x.numpy(), flat(net), sizes, activation, threads=threads, keep=True)
    grads, grad_x = kernels.backward(
        grad.numpy(), x.numpy(), flat(net), hidden, sizes, activation, threads=threads, needs_input_grad=True
    )
    wanted = [exact.detach(), torch.cat([g.flatten() for g in exact_grads[1:]]), exact_grads[0]]
    return wanted, [torch.from_numpy(found).double() for found in (out, grads, grad_x)]


@few
@given(
    layer_sizes,
    st.sampled_from(sorted(ACTIVATIONS)),
    st.integers(1, 300),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_passes_of_any_shape_are_those_of_the_layers(
    sizes: list[int], activation: str, rows: int, threads: int, seed: int
) -> None:
    """Whole vectors or not, whole blocks or not, more threads than blocks: output and gradients are right."""
    wanted, found = both(sizes, activation, rows, threads, seed)
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_passes_of_wide_layers_are_those_of_the_layers() -> None:
    """Several tiles a row, and a rest that is none."""
    for one, other in zip(*both([70, 150, 67, 3], "tanh", 400, 2, 0), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_output_does_not_depend_on_threads_nor_on_what_is_kept(activation: str) -> None:
    """Every row is computed alike, bit for bit."""
    sizes = [5, 33, 20, 2]
    net, x = flat(network(sizes, activation)), np.random.default_rng(0).standard_normal((300, 5), np.float32)
    outs = [
        kernels.forward(x, net, sizes, activation, threads=threads, keep=keep)[0]
        for threads in (1, 2, 5)
        for keep in (False, True)
    ]
    assert all(np.array_equal(outs[0], out) for out in outs[1:])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_right_over_all_numbers(activation: str) -> None:
    """A unit that passes its input on shows the activation: huge, tiny, signed zero, infinite, not a
    number.
    """
    numbers = [
        0.0,
        1e-30,
        1e-8,
        1e-4,
        0.1,
        0.34,
        0.35,
        1.0,
        5.0,
        9.0,
        20.0,
        86.0,
        87.0,
        88.0,
        1e4,
        1e30,
        np.inf,
    ]
    x = np.array([sign * number for number in numbers for sign in (1, -1)] + [np.nan], np.float32)[:, None]
    out, _ = kernels.forward(
        x, np.array([1, 0, 1, 0], np.float32), [1, 1, 1], activation, threads=1, keep=False
    )
    wanted = ACTIVATIONS[activation]()(torch.from_numpy(x).double())
    torch.testing.assert_close(torch.from_numpy(out).double(), wanted, rtol=4e-7, atol=1e-37, equal_nan=True)


def test_what_is_not_finite_stays_so() -> None:
    """One bad weight makes every gradient on its way not finite, so that a learner sees it."""
    sizes = [3, 8, 2]
    parameters = np.ones(3 * 8 + 8 + 8 * 2 + 2, np.float32)
    parameters[0] = np.nan
    x = np.ones((10, 3), np.float32)
    out, hidden = kernels.forward(x, parameters, sizes, "relu", threads=1, keep=True)
    assert np.isnan(out).all()
    grads, _ = kernels.backward(out, x, parameters, hidden, sizes, "relu", threads=1, needs_input_grad=False)
    assert not np.isfinite(grads).any()
