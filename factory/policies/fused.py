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
"""Gradient by an activation's inputs, from that by its outputs and the outputs; computed in place."""


def apply_kernels(
    features: Tensor, activation: str, sizes: list[int], parameters: Sequence[Tensor]
) -> Tensor:
    """Return the last layer's output in float32, computed by functions compiled for this processor.

    Args:
        features: (..., I).
        activation: activation of the hidden layers.
        sizes: features, units of every hidden layer, outputs.
        parameters: weight and bias of every layer in turn.

    Raises:
        ValueError: the features do not fit the first layer.
    """
    # Only training keeps the hidden units, which are most of the memory.
    if torch.is_grad_enabled():
        return _KernelFunction.apply(features, activation, sizes, *parameters)
    return _forward(features, activation, sizes, parameters, keep=False)[0]


def _forward(
    features: Tensor, activation: str, sizes: list[int], parameters: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the outputs (..., O), features in rows, all parameters, and the hidden units if `keep`."""
    # NumPy arrays share the memory of the tensors; nothing is copied but the parameters.
    rows = features.detach().reshape(-1, features.shape[-1]).contiguous()
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    threads = torch.get_num_threads()
    out, hidden = kernels.forward(rows.numpy(), flat.numpy(), sizes, activation, threads=threads, keep=keep)
    outputs = torch.from_numpy(out).view(*features.shape[:-1], sizes[-1])
    return outputs, rows, flat, torch.from_numpy(hidden)


class _KernelFunction(torch.autograd.Function):
    """Kernels as one node of autograd's graph: one call forward and one backward."""

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
        input_grad = None
        if needs_input_grad:
            input_grad = torch.from_numpy(first).view(*grad.shape[:-1], ctx.sizes[0])
        # One gradient for each argument of `forward`; activation and sizes have none.
        return input_grad, None, None, *grads


class OneDnn(torch.autograd.Function):
    """The layers in bfloat16 by oneDNN, which adds bias and activation within the matrix product."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, activation: str, *parameters: Tensor) -> Tensor:
        """Return the last layer's output; parameters are weight and bias in turn.

        Shape: (..., I) -> (..., O).
        """
        # Parameters stay float32; only this copy is rounded to 8 bits of mantissa.
        features, *rounded = (tensor.bfloat16() for tensor in (features, *parameters))
        *hidden, output = _layer_outputs(features, activation, rounded)
        ctx.activation = activation
        ctx.save_for_backward(features, *hidden, *rounded[::2])
        return output.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by the arguments of `forward`."""
        # Saved are the inputs of every layer, then the weights of every layer.
        saved = ctx.saved_tensors
        depth = len(ctx.saved_tensors) // 2
        inputs = saved[:depth]
        weights = saved[depth:]
        grads: list[Tensor] = []
        grad = grad.bfloat16()
        # Layer y = f(x W^T + b), g = dL/dy f': dL/db = sum g, dL/dW = g^T x, dL/dx = g W. The list is built
        # from the last layer to the first and reversed at the end.
        for k in reversed(range(depth)):
            rows = grad.flatten(0, -2)
            bias_grad = rows.sum(0, dtype=torch.float32)
            weight_grad = _weight_gradient(rows, inputs[k].flatten(0, -2)).float()
            grads += [bias_grad, weight_grad]
            if k:
                grad = _BACKWARD[ctx.activation](_affine(grad, weights[k].T, None), inputs[k])
        input_grad = None
        if ctx.needs_input_grad[0]:
            input_grad = _affine(grad, weights[0].T, None).float()
        return input_grad, None, *reversed(grads)


def _layer_outputs(features: Tensor, activation: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return every layer's output; `parameters` are weight and bias of each in turn."""
    outputs = []
    # Torch does not expose oneDNN's elu, so that one follows as an operation of its own.
    fused = activation
    if activation == "elu":
        fused = "none"
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


def _weight_gradient(rows: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient by a weight, rows.T @ inputs. Shapes: (B, O), (B, I) -> (O, I)."""
    # oneDNN is faster with the longer side first: (x^T g)^T = g^T x.
    if inputs.shape[1] < rows.shape[1]:
        return (inputs.T @ rows).T
    return rows.T @ inputs
