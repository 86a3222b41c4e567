"""The perceptron's fused passes beside its layers one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from factory.policies.mlp_config import ACTIVATIONS
from factory.policies.perceptron import Perceptron


def build(activation: str, *, precision: str = "float32") -> Perceptron:
    torch.manual_seed(0)
    return Perceptron(5, [16, 8], 3, activation=activation, precision=precision, gain=1.0)


def layers(net: Perceptron) -> nn.Sequential:
    """Return a copy that torch runs layer by layer."""
    return nn.Sequential(*copy.deepcopy(list(net)))


def passes(net: nn.Module, features: Tensor, grad: Tensor) -> list[Tensor]:
    """Return output and gradients of the input and of all parameters."""
    features = features.clone().requires_grad_()
    output = net(features)
    output.backward(grad)
    return [output.detach(), features.grad, *(p.grad for p in net.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("shape", [(), (7,), (4, 6)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_passes_are_those_of_the_layers(activation: str, shape: tuple[int, ...]) -> None:
    """Output and every gradient are what torch's own layers give, for a row, for rows and for rollouts of
    rows.
    """
    net = build(activation)
    features, grad = torch.randn(*shape, 5), torch.randn(*shape, 3)
    torch.testing.assert_close(
        passes(net, features, grad), passes(layers(net), features, grad), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_output_without_gradients_is_the_same_bit_for_bit(activation: str) -> None:
    """What the collector sees is what the learner sees."""
    net, features = build(activation), torch.randn(9, 5)
    with torch.no_grad():
        collected = net(features)
    assert torch.equal(collected, net(features))


def test_input_and_upstream_gradient_are_left_alone() -> None:
    """Passes in place touch only what they made themselves."""
    net, features, grad = build("elu"), torch.randn(9, 5), torch.randn(9, 3)
    before = features.clone(), grad.clone()
    passes(net, features, grad)
    assert torch.equal(features, before[0])
    assert torch.equal(grad, before[1])


def test_other_precision_runs_layer_by_layer() -> None:
    """float64 works, exactly as the layers do."""
    net, features = build("tanh").double(), torch.randn(9, 5, dtype=torch.float64)
    assert torch.equal(net(features), layers(net)(features))


def test_export_holds_no_fused_call() -> None:
    """An exported perceptron needs torch only, so it loads on any machine."""
    program = torch.export.export(build("tanh"), (torch.randn(2, 5),))
    calls = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert calls == {"aten.linear.default", "aten.tanh.default"}


def test_features_that_do_not_fit_are_refused() -> None:
    """Twice as many columns are not twice as many rows."""
    with pytest.raises(ValueError, match="expected contiguous float32"):
        build("tanh")(torch.randn(4, 10))


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_no_rows_give_no_rows(shape: tuple[int, ...]) -> None:
    """An empty batch goes through forward and back."""
    net = build("tanh")
    found = passes(net, torch.randn(*shape, 5), torch.randn(*shape, 3))
    assert found[0].shape == (*shape, 3)
    assert found[1].shape == (*shape, 5)
    assert all((grad == 0).all() for grad in found[2:])


def test_parameters_that_were_replaced_are_those_in_use() -> None:
    """A state may be assigned, a layer be put in another's place."""
    net, other, features = build("tanh"), build("tanh"), torch.randn(9, 5)
    other[0].weight.data += 1.0
    net.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(net(features), other(features))
    net[-1] = nn.Linear(8, 4)
    assert net(features).shape == (9, 4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bfloat16_is_near_float32(activation: str) -> None:
    """Output and gradients differ by the rounding of eight bits, and are float32 themselves."""
    features, grad = torch.randn(64, 5), torch.randn(64, 3)
    exact = passes(build(activation), features, grad)
    rounded = passes(build(activation, precision="bfloat16"), features, grad)
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert 0 < float((one - other).norm() / one.norm()) < 0.1


def test_bfloat16_one_by_one_is_near_the_fused_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no oneDNN, autocast rounds alike."""
    net, features = build("tanh", precision="bfloat16"), torch.randn(64, 5)
    fused = net(features)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert net(features).dtype == torch.float32
    torch.testing.assert_close(net(features), fused, rtol=0.05, atol=0.05)
