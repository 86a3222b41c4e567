"""Bias and activation of a layer, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from factory.kernels.compiling import compiled

ACTIVATIONS = ("tanh", "elu", "relu")
"""Names of the activations; kernels take the index, or -1 for none."""


@intrinsic
def _float_of_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 with these bits."""
    # Numba cannot reinterpret bits, so this emits LLVM's bitcast.
    generate = lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())
    return types.float32(types.int32), generate


@njit(inline="always")
def _expm1(x):
    """Return exp(x) - 1 for x <= 0 to float32 precision (Cephes, https://www.netlib.org/cephes, expf)."""
    # exp(-87) is about the smallest normal float32; below it 2^n would leave the exponent's range.
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    # x = n log 2 + r with |r| <= log(2) / 2. log 2 is split in two: n times the first part is exact.
    n = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    # exp(r) = 1 + r + r^2 p(r), by Horner's scheme.
    p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    # 2^n: an exponent biased by 127 above 23 bits of zero mantissa.
    power = _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    # exp(x) - 1 = (exp(r) - 1) 2^n + (2^n - 1), which cancels nothing near zero.
    return (p * r * r + r) * power + (power - np.float32(1.0))


@compiled()
def activate(value, bias, activation):
    """Replace the sums of a layer by its outputs. Shapes: (N, J), (J,)."""
    rows, width = value.shape
    # One inner loop for each activation, free of branches, so that LLVM vectorises it.
    for i in range(rows):
        if activation == 0:
            # tanh |x| = (1 - e^(-2 |x|)) / (1 + e^(-2 |x|)) = -t / (t + 2) with t = e^(-2 |x|) - 1
            for j in range(width):
                x = value[i, j] + bias[j]
                t = _expm1(np.float32(-2.0) * abs(x))
                value[i, j] = np.copysign(t / (t + np.float32(2.0)), x)
        elif activation == 1:
            # elu: x for x > 0, else e^x - 1
            for j in range(width):
                x = value[i, j] + bias[j]
                value[i, j] = x if x > np.float32(0.0) else _expm1(x)
        elif activation == 2:
            for j in range(width):
                x = value[i, j] + bias[j]
                value[i, j] = np.float32(0.0) if x < np.float32(0.0) else x
        else:
            for j in range(width):
                value[i, j] += bias[j]


@compiled()
def activation_grad(grad, value, activation):
    """Turn the gradient by the outputs `value` of an activation into that by its inputs. Shapes: (N, J)."""
    rows, width = grad.shape
    # All derivatives follow from the outputs y, so the inputs need not be kept.
    for i in range(rows):
        if activation == 0:
            # tanh' = 1 - y^2
            for j in range(width):
                grad[i, j] *= np.float32(1.0) - value[i, j] * value[i, j]
        elif activation == 1:
            # elu' = y + 1 = e^x for y < 0, else 1
            for j in range(width):
                y = value[i, j]
                grad[i, j] *= y + np.float32(1.0) if y < np.float32(0.0) else np.float32(1.0)
        else:
            for j in range(width):
                grad[i, j] *= np.float32(1.0) if value[i, j] > np.float32(0.0) else np.float32(0.0)
