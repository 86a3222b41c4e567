"""All layers of a perceptron on a CPU as one call, and one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from factory import kernels

_BACKWARD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elu": lambda grad, out: torch.ops.aten.elu_backward.grad_input(
        grad, 1, 1, 1, True, out, grad_input=grad
    ),
    "tanh": lambda grad, out: torch.ops.aten.tanh_backward.grad_input(grad, out, grad_input=grad),
    "relu": lambda grad, out: torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad),
}
"""Gradient before an activation from that after it, in place, and the activation's result."""


def compiled(features: Tensor, activation: str, sizes: list[int], parameters: Sequence[Tensor]) -> Tensor:
    """Return the last layer's output in float32, by functions compiled for this processor.

    Args:
        features: (..., I).
        activation: of the hidden layers.
        sizes: features, units of every hidden layer, outputs.
        parameters: weight and bias of every layer in turn.

    Raises:
        ValueError: the features do not fit the first layer.
    """
    if torch.is_grad_enabled():
        return _Compiled.apply(features, activation, sizes, *parameters)
    return _forward(features, activation, sizes, parameters, keep=False)[0]


def _forward(
    features: Tensor, activation: str, sizes: list[int], parameters: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the outputs (..., O), features in rows, all parameters, and the hidden units if `keep`."""
    rows = features.detach().reshape(-1, features.shape[-1]).contiguous()
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    threads = torch.get_num_threads()
    out, hidden = kernels.forward(rows.numpy(), flat.numpy(), sizes, activation, threads=threads, keep=keep)
    return torch.from_numpy(out).view(*features.shape[:-1], sizes[-1]), rows, flat, torch.from_numpy(hidden)


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, activation: str, sizes: list[int], *parameters: Tensor) -> Tensor:
        out, *saved = _forward(features, activation, sizes, parameters, keep=any(ctx.needs_input_grad))
        ctx.activation = activation
        ctx.shapes = [p.shape for p in parameters]
        ctx.sizes = sizes
        ctx.save_for_backward(*saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, flat, hidden = (tensor.numpy() for tensor in ctx.saved_tensors)
        needs_input_grad = ctx.needs_input_grad[0]
        flat_grad, first = kernels.backward(
            grad.reshape(-1, grad.shape[-1]).contiguous().numpy(),
            rows,
            flat,
            hidden,
            ctx.sizes,
            ctx.activation,
            threads=torch.get_num_threads(),
            needs_input_grad=needs_input_grad,
        )
        parts = torch.from_numpy(flat_grad).split([shape.numel() for shape in ctx.shapes])
        grads = [part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True)]
        return (
            torch.from_numpy(first).view(*grad.shape[:-1], ctx.sizes[0]) if needs_input_grad else None,
            None,
            None,
            *grads,
        )


class OneDnn(torch.autograd.Function):
    """In bfloat16, by oneDNN, which does bias and activation within the matrix product."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, activation: str, *parameters: Tensor) -> Tensor:
        """Return the last layer's output; parameters are weight and bias in turn.

        Shape: (..., I) -> (..., O).
        """
        features, *rounded = (tensor.bfloat16() for tensor in (features, *parameters))
        *hidden, output = _layer_outputs(features, activation, rounded)
        ctx.activation = activation
        ctx.save_for_backward(features, *hidden, *rounded[::2])
        return output.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by `forward`'s arguments."""
        saved = ctx.saved_tensors
        depth = len(ctx.saved_tensors) // 2
        inputs = saved[:depth]
        weights = saved[depth:]
        grads: list[Tensor] = []
        grad = grad.bfloat16()
        for k in reversed(range(depth)):
            rows = grad.flatten(0, -2)
            grads += [rows.sum(0, dtype=torch.float32), _of_weight(rows, inputs[k].flatten(0, -2)).float()]
            if k:
                grad = _BACKWARD[ctx.activation](_affine(grad, weights[k].T, None), inputs[k])
        if ctx.needs_input_grad[0]:
            first = _affine(grad, weights[0].T, None).float()
        else:
            first = None
        return first, None, *reversed(grads)


def _layer_outputs(features: Tensor, activation: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return every layer's output; `parameters` are weight and bias of each in turn."""
    outputs = []
    # Torch does not expose oneDNN's elu.
    fused = activation if activation != "elu" else "none"
    *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
    for weight, bias in hidden:
        features = _affine(features, weight, bias, fused)
        if fused == "none":
            torch.nn.functional.elu_(features)
        outputs.append(features)
    return [*outputs, _affine(features, *last)]


def _affine(features: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    """Return `activation(features @ weight.T + bias)`. Shapes: (..., I), (O, I), (O,) -> (..., O)."""
    return torch.ops.mkldnn._linear_pointwise(features, weight, bias, activation, [], "")


def _of_weight(rows: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient of a weight, longer side first for speed. Shapes: (B, O), (B, I) -> (O, I)."""
    if inputs.shape[1] < rows.shape[1]:
        return (inputs.T @ rows).T
    return rows.T @ inputs
