"""Memory layout of parameters and gradients for the kernels."""

from __future__ import annotations

import itertools

import numpy as np

from factory.kernels.compiling import Floats, compiled
from factory.kernels.tile import LANES


@compiled()
def padded(size):
    """Return a number of columns rounded up to whole vectors."""
    return -(-size // LANES) * LANES


@compiled()
def rows_of(values, low, high, width):
    """Return rows low to high of a matrix that lies in `values` from the start.

    Shape: (high - low, width).
    """
    return values[low * width : high * width].reshape(high - low, width)


@compiled()
def copy(source, target):
    """Fill the target's rows with the source's, and with zeros where it has more columns."""
    rows, columns = source.shape
    for i in range(rows):
        for j in range(columns):
            target[i, j] = source[i, j]
        for j in range(columns, target.shape[1]):
            target[i, j] = 0.0


@compiled()
def transpose(matrix, result):
    """Write the transpose of a matrix into the result, as far as both reach."""
    rows = min(matrix.shape[0], result.shape[1])
    columns = min(matrix.shape[1], result.shape[0])
    # In squares of 16 by 16: 16 float32 are one cache line, which is then used whole on both sides.
    for i0 in range(0, rows, 16):
        for j0 in range(0, columns, 16):
            for j in range(j0, min(j0 + 16, columns)):
                for i in range(i0, min(i0 + 16, rows)):
                    result[j, i] = matrix[i, j]


@compiled()
def pack_forward(flat, sizes):
    """Return weights and bias of layer after layer as (inputs + 1, outputs padded), the bias last."""
    # outputs = x @ W.T + b: the columns of W.T become the vectors that the product streams through.
    total = 0
    for k in range(len(sizes) - 1):
        total += (sizes[k] + 1) * padded(sizes[k + 1])
    packed = np.zeros(total, np.float32)
    # Beginning of the layer in `flat` and in `packed`.
    start = 0
    offset = 0
    for k in range(len(sizes) - 1):
        inputs = sizes[k]
        outputs = sizes[k + 1]
        layer = rows_of(packed[offset:], 0, inputs + 1, padded(outputs))
        transpose(rows_of(flat[start:], 0, outputs, inputs), layer)
        for o in range(outputs):
            layer[inputs, o] = flat[start + outputs * inputs + o]
        start += outputs * (inputs + 1)
        offset += layer.size
    return packed


@compiled()
def pack_backward(flat, sizes):
    """Return the weights of layer after layer as (outputs, inputs padded)."""
    # gradient by x = gradient by outputs @ W: W keeps its layout, and its rows are filled up.
    total = 0
    for k in range(len(sizes) - 1):
        total += sizes[k + 1] * padded(sizes[k])
    packed = np.zeros(total, np.float32)
    start = 0
    offset = 0
    for k in range(len(sizes) - 1):
        inputs = sizes[k]
        outputs = sizes[k + 1]
        layer = rows_of(packed[offset:], 0, outputs, padded(inputs))
        copy(rows_of(flat[start:], 0, outputs, inputs), layer)
        start += outputs * (inputs + 1)
        offset += layer.size
    return packed


@compiled()
def as_flat(sums, sizes, grads):
    """Add up the gradients of all threads and write them to `grads`, laid out as `flat`.

    Shapes: (threads, ...) -> (P,).
    """
    # Thread by thread in a fixed order: the result does not depend on which thread finishes first.
    for part in range(1, len(sums)):
        for k in range(sums.shape[1]):
            sums[0, k] += sums[part, k]
    start = 0
    offset = 0
    for k in range(len(sizes) - 1):
        inputs = sizes[k]
        outputs = sizes[k + 1]
        layer = rows_of(sums[0, offset:], 0, inputs + 1, padded(outputs))
        transpose(layer[:inputs], rows_of(grads[start:], 0, outputs, inputs))
        for o in range(outputs):
            grads[start + outputs * inputs + o] = layer[inputs, o]
        start += outputs * (inputs + 1)
        offset += layer.size


def empty_sums(sizes: list[int], threads: int) -> Floats:
    """Return zeros for every thread, laid out as `pack_forward` has parameters. Shape: (threads, ...)."""
    size = sum((inputs + 1) * padded(outputs) for inputs, outputs in itertools.pairwise(sizes))
    return np.zeros((threads, size), np.float32)


def num_parameters(sizes: list[int]) -> int:
    """Return P, the number of weights and biases."""
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
