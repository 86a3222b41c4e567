"""Forward and backward pass of a multilayer perceptron."""

from __future__ import annotations

import numpy as np
from numba import prange

from factory.kernels.activation import ACTIVATIONS, activate, deactivate
from factory.kernels.compiling import Floats, check, compiled, share
from factory.kernels.layout import (
    as_flat,
    by_input,
    by_output,
    copy,
    empty_sums,
    num_parameters,
    padded,
    rows_of,
)
from factory.kernels.tile import product

BLOCK = 128
"""Samples that go through all layers at once."""


@compiled()
def _forward_block(x, filled, sizes, activation, hidden, out):
    """Fill in what every layer puts out.

    Shapes: (N, I), ... -> (N H,) layer after layer, (N, O filled up).
    """
    layers = len(sizes) - 1
    at = left = 0
    source = x[:, : sizes[0]]
    for k in range(layers):
        inputs, width = sizes[k], padded(sizes[k + 1])
        layer = rows_of(filled[at:], 0, inputs + 1, width)
        target = out if k == layers - 1 else rows_of(hidden[len(x) * left :], 0, len(x), width)
        product(source, layer[:inputs], target, True)
        activate(target, layer[inputs], -1 if k == layers - 1 else activation)
        source = target[:, : sizes[k + 1]]
        at, left = at + layer.size, left + width


@compiled()
def _add_rows(rows, total):
    """Add the sum of rows to the total. Shapes: (N, J), (J,)."""
    for i in range(len(rows)):
        for j in range(len(total)):
            total[j] += rows[i, j]


@compiled()
def _backward_block(grad, x, filled, sizes, activation, hidden, sums, spare, grad_x):
    """Add gradients by parameters to `sums`, laid out as `by_input` does; fill in `grad_x` if it has rows.

    Shapes: (N, O filled up), (N, I), ..., (N H,) -> ..., (N, I) or (0, I). `spare` is room for two layers.
    """
    at, over, left = len(sums), len(filled), len(hidden)
    for k in range(len(sizes) - 2, -1, -1):
        inputs, outputs, width = sizes[k], sizes[k + 1], padded(sizes[k])
        at, over = at - (inputs + 1) * padded(outputs), over - outputs * width
        layer = rows_of(sums[at:], 0, inputs + 1, padded(outputs))
        _add_rows(grad, layer[inputs])
        if k == 0:
            product(x[:, :inputs].T, grad, layer[:inputs], False)
            if len(grad_x) == 0:
                return
        before = rows_of(spare[k % 2], 0, len(x), width)
        product(grad[:, :outputs], rows_of(filled[over:], 0, outputs, width), before, True)
        if k == 0:
            copy(before[:, :inputs], grad_x)
            return
        left -= len(x) * width
        source = rows_of(hidden[left:], 0, len(x), width)
        product(source[:, :inputs].T, grad, layer[:inputs], False)
        deactivate(before, source, activation)
        grad = before


@compiled()
def num_units(sizes):
    """Return H."""
    units = 0
    for k in range(1, len(sizes) - 1):
        units += padded(sizes[k])
    return units


@compiled()
def _spare_room(sizes):
    """Return room for what two layers put out for a block. Shape: (2, BLOCK * widest layer)."""
    widest = 0
    for size in sizes:
        widest = max(widest, padded(size))
    return np.empty((2, BLOCK * widest), np.float32)


@compiled()
def part_of(rows, threads, part):
    """Return the first and one after the last of a thread's rows, which are whole blocks."""
    share = -(-rows // (BLOCK * threads)) * BLOCK
    return min(part * share, rows), min((part + 1) * share, rows)


@compiled()
def forward_blocks(x, filled, sizes, activation, hidden, out):
    """Do as `_forward_block` for any number of samples.

    `hidden` keeps only the last block if it has no more room.
    """
    units, width = num_units(sizes), padded(sizes[-1])
    kept = len(hidden) == len(x) * units
    for low in range(0, len(x), BLOCK):
        high = min(low + BLOCK, len(x))
        first = low if kept else 0
        block = hidden[first * units : (first + high - low) * units]
        _forward_block(x[low:high], filled, sizes, activation, block, rows_of(out, low, high, width))


@compiled()
def _forward_rows(x, filled, sizes, activation, hidden, out, threads, part):
    """Do what `_forward` does for the rows of one of its threads."""
    units, width = num_units(sizes), padded(sizes[-1])
    begin, end = part_of(len(x), threads, part)
    own = hidden[begin * units : end * units] if len(hidden) > 0 else np.empty(BLOCK * units, np.float32)
    last = np.empty((end - begin) * width, np.float32)
    forward_blocks(x[begin:end], filled, sizes, activation, own, last)
    copy(rows_of(last, 0, end - begin, width)[:, : sizes[-1]], out[begin:end])


@compiled(parallel=True)
def _forward(x, filled, sizes, activation, hidden, out, threads):
    """Fill in `hidden`, if it has room, and `out`."""
    for part in prange(threads):
        _forward_rows(x, filled, sizes, activation, hidden, out, threads, np.int64(part))


@compiled()
def backward_blocks(grad, x, filled, sizes, activation, hidden, sums, grad_x):
    """Do as `_backward_block` for any number of samples, of which `hidden` has block after block."""
    units, width, spare = num_units(sizes), padded(sizes[-1]), _spare_room(sizes)
    for low in range(0, len(x), BLOCK):
        high = min(low + BLOCK, len(x))
        block, rows = hidden[low * units : high * units], rows_of(grad, low, high, width)
        by_x = grad_x[low:high] if len(grad_x) > 0 else grad_x
        _backward_block(rows, x[low:high], filled, sizes, activation, block, sums, spare, by_x)


@compiled()
def _backward_rows(grad, x, filled, sizes, activation, hidden, sums, grad_x, threads, part):
    """Do what `_backward` does for the rows of one of its threads."""
    units, width = num_units(sizes), padded(sizes[-1])
    begin, end = part_of(len(x), threads, part)
    last = np.empty((end - begin) * width, np.float32)
    copy(grad[begin:end], rows_of(last, 0, end - begin, width))
    by_x = grad_x[begin:end] if len(grad_x) > 0 else grad_x
    own = hidden[begin * units : end * units]
    backward_blocks(last, x[begin:end], filled, sizes, activation, own, sums[part], by_x)


@compiled(parallel=True)
def _backward(grad, x, filled, sizes, activation, hidden, sums, grad_x, threads):
    """Add gradients by parameters to every thread's sums; fill in those by features if `grad_x` has room."""
    for part in prange(threads):
        _backward_rows(grad, x, filled, sizes, activation, hidden, sums, grad_x, threads, np.int64(part))


def forward(
    x: Floats, flat: Floats, sizes: list[int], activation: str, *, threads: int, keep: bool
) -> tuple[Floats, Floats]:
    """Return the outputs of the last layer (B, O), and all hidden ones (B H,) if `keep`, else (0,).

    Args:
        x: features, (B, I), contiguous.
        flat: parameters, see above.
        sizes: see above.
        activation: after every layer but the last: tanh, elu or relu.
        threads: that share the samples.
        keep: whether `backward` will be called.

    Raises:
        ValueError: shapes that do not fit.
    """
    check(x, len(x), sizes[0])
    check(flat, num_parameters(sizes))
    at = np.array(sizes)
    hidden, out = (
        np.empty(len(x) * num_units(at) * keep, np.float32),
        np.empty((len(x), sizes[-1]), np.float32),
    )
    share(
        (_forward, _forward_rows),
        threads,
        x,
        by_input(flat, at),
        at,
        ACTIVATIONS.index(activation),
        hidden,
        out,
    )
    return out, hidden


def backward(
    grad: Floats,
    x: Floats,
    flat: Floats,
    hidden: Floats,
    sizes: list[int],
    activation: str,
    *,
    threads: int,
    by_x: bool,
) -> tuple[Floats, Floats]:
    """Return gradients by parameters, laid out as `flat`, and by features if asked for, (B, I), else (0, I).

    Args:
        grad: gradient by what the last layer put out, (B, O), contiguous.
        x: as `forward` had it.
        flat: as `forward` had it.
        hidden: as `forward` returned it.
        sizes: see above.
        activation: as `forward` had it.
        threads: that share the samples.
        by_x: whether to return the gradient by features.

    Raises:
        ValueError: shapes that do not fit.
    """
    check(grad, len(x), sizes[-1])
    at, grads, grad_x = np.array(sizes), np.empty_like(flat), np.empty((len(x) * by_x, sizes[0]), np.float32)
    sums, code = empty_sums(sizes, threads), ACTIVATIONS.index(activation)
    share((_backward, _backward_rows), threads, grad, x, by_output(flat, at), at, code, hidden, sums, grad_x)
    as_flat(sums, at, grads)
    return grads, grad_x


def prepare_passes(threads: int) -> None:
    """Compile now what `forward` and `backward` will call, or load it: not in the first iteration."""
    number, flat, sizes = np.zeros((1, 1), np.float32), np.zeros(4, np.float32), [1, 1, 1]
    _, hidden = forward(number, flat, sizes, "tanh", threads=threads, keep=True)
    backward(number, number, flat, hidden, sizes, "tanh", threads=threads, by_x=False)
