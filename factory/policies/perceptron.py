"""A multilayer perceptron whose passes on a CPU are as few and as fast as oneDNN makes them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": functools.partial(nn.ELU, inplace=True),
    "tanh": nn.Tanh,
    "relu": functools.partial(nn.ReLU, inplace=True),
}
_BACKWARD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elu": lambda grad, out: torch.ops.aten.elu_backward.grad_input(grad, 1, 1, 1, True, out, grad_input=grad),
    "tanh": lambda grad, out: torch.ops.aten.tanh_backward.grad_input(grad, out, grad_input=grad),
    "relu": lambda grad, out: torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad),
}
"""Gradient before an activation from that after it, in place, and the activation's result."""
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


class Perceptron(nn.Sequential):
    """Linear layers with an activation between them.

    On a CPU, oneDNN does bias and activation within the matrix product, and is faster at the product than the BLAS
    that torch otherwise calls; elsewhere, and in an export, the layers run one by one. Both ways give the same
    result but for rounding. `precision` is that of products and activations; weights and sums stay float32.
    """

    precision: torch.dtype

    def __init__(
        self, inputs: int, hidden: list[int], outputs: int, *, activation: str, precision: str, gain: float
    ) -> None:
        """Draw orthogonal weights.

        Args:
            inputs: features.
            hidden: units of the hidden layers.
            outputs: units of the last layer, which has no activation.
            activation: a key of `ACTIVATIONS`.
            precision: a key of `PRECISIONS`.
            gain: scale of the last layer's weights.
        """
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [_linear(inputs, size, math.sqrt(2.0)), ACTIVATIONS[activation]()]
            inputs = size
        super().__init__(*layers, _linear(inputs, outputs, gain))
        self.activation, self.precision = activation, PRECISIONS[precision]

    def forward(self, features: Tensor) -> Tensor:
        """Return the last layer's output. Shape: (..., inputs) -> (..., outputs)."""
        if not _has_onednn(features):
            return self._one_by_one(features)
        parameters = [p for layer in self if isinstance(layer, nn.Linear) for p in (layer.weight, layer.bias)]
        return _Fused.apply(features, self.activation, self.precision, *parameters)

    def _one_by_one(self, features: Tensor) -> Tensor:
        if self.precision is torch.float32:
            return super().forward(features)
        with torch.autocast(features.device.type, self.precision):
            return super().forward(features).float()


class _Fused(torch.autograd.Function):
    """All layers as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, activation: str, precision: torch.dtype, *parameters: Tensor) -> Tensor:
        features, *rounded = (tensor.to(precision) for tensor in (features, *parameters))
        *hidden, output = _layer_outputs(features, activation, rounded)
        ctx.activation = activation
        ctx.save_for_backward(features, *hidden, *rounded[::2])
        return output.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, depth = ctx.saved_tensors, len(ctx.saved_tensors) // 2
        inputs, weights = saved[:depth], saved[depth:]
        grads: list[Tensor] = []
        grad = grad.to(weights[0].dtype)
        for k in reversed(range(depth)):
            rows = grad.flatten(0, -2)
            grads += [rows.sum(0, dtype=torch.float32), _of_weight(rows, inputs[k].flatten(0, -2)).float()]
            if k:
                grad = _BACKWARD[ctx.activation](_affine(grad, weights[k].T, None), inputs[k])
        first = _affine(grad, weights[0].T, None).float() if ctx.needs_input_grad[0] else None
        return (first, None, None, *reversed(grads))


def _layer_outputs(features: Tensor, activation: str, parameters: Any) -> list[Tensor]:
    """Return every layer's output; `parameters` are weight and bias of each in turn."""
    outputs = []
    fused = activation if activation != "elu" else "none"  # oneDNN's elu is not within reach
    *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
    for weight, bias in hidden:
        features = _affine(features, weight, bias, fused)
        if fused == "none":
            nn.functional.elu_(features)
        outputs.append(features)
    return [*outputs, _affine(features, *last)]


def _affine(features: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    """Return `activation(features @ weight.T + bias)`. Shapes: (..., I), (O, I), (O,) -> (..., O)."""
    return torch.ops.mkldnn._linear_pointwise(features, weight, bias, activation, [], "")


def _of_weight(rows: Tensor, inputs: Tensor) -> Tensor:
    """Return a weight's gradient, the longer side of it first: so the product is faster. (B, O), (B, I) -> (O, I)."""
    return (inputs.T @ rows).T if inputs.shape[1] < rows.shape[1] else rows.T @ inputs


def _has_onednn(features: Tensor) -> bool:
    return (
        features.device.type == "cpu"
        and features.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()
    )


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
