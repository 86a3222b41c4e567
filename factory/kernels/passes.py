"""Forward and backward pass of a multilayer perceptron.

    forward, backward                  check shapes and pack the parameters
    _forward, _backward                share the samples out to threads, in whole blocks
    _forward_rows, _backward_rows      one thread: its samples, its buffers, its sums
    forward_blocks, backward_blocks    block after block through all layers
    _forward_block, _backward_block    one block, layer after layer: product, then activation

The hidden units of a block lie layer after layer in `hidden`, those of the next block behind them. The way
back reads them from the end.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from factory.kernels.activation import ACTIVATIONS, activate, activation_grad
from factory.kernels.compiling import Floats, check, compiled, share
from factory.kernels.layout import (
    as_flat,
    copy,
    empty_sums,
    num_parameters,
    pack_backward,
    pack_forward,
    padded,
    rows_of,
)
from factory.kernels.tile import product

BLOCK = 128
"""Samples that go through all layers at once: their units fit a core's cache beside the weights."""


@compiled()
def _forward_block(x, packed, sizes, activation, hidden, out):
    """Compute the outputs of every layer.

    Shapes: (N, I), ... -> (N H,) layer after layer, (N, O padded).
    """
    layers = len(sizes) - 1
    # Where the parameters of the layer begin in `packed`, and its units in `hidden`, per sample.
    offset = 0
    first_unit = 0
    source = x[:, : sizes[0]]
    for k in range(layers):
        inputs = sizes[k]
        width = padded(sizes[k + 1])
        # A layer is its weight, transposed and padded, with the bias as one more row.
        layer = rows_of(packed[offset:], 0, inputs + 1, width)
        # The last layer has no activation and writes to `out`.
        if k == layers - 1:
            target = out
            kind = -1
        else:
            target = rows_of(hidden[len(x) * first_unit :], 0, len(x), width)
            kind = activation
        product(source, layer[:inputs], target, True)
        activate(target, layer[inputs], kind)
        # The next layer reads the units without the padding.
        source = target[:, : sizes[k + 1]]
        offset += layer.size
        first_unit += width


@compiled()
def _add_rows(rows, total):
    """Add the sum of rows to the total. Shapes: (N, J), (J,)."""
    for i in range(len(rows)):
        for j in range(len(total)):
            total[j] += rows[i, j]


@compiled()
def _backward_block(grad, x, packed, sizes, activation, hidden, sums, spare, grad_x):
    """Add gradients by parameters to `sums`, laid out like `pack_forward`; fill `grad_x` if it has rows.

    Shapes: (N, O padded), (N, I), ..., (N H,) -> ..., (N, I) or (0, I). `spare` is room for two layers.
    """
    # Layers lie one after the other, so the way back starts at the ends.
    sums_offset = len(sums)
    packed_offset = len(packed)
    hidden_offset = len(hidden)
    for k in range(len(sizes) - 2, -1, -1):
        inputs = sizes[k]
        outputs = sizes[k + 1]
        width = padded(inputs)
        sums_offset -= (inputs + 1) * padded(outputs)
        packed_offset -= outputs * width

        # By the bias: the sum of `grad` over samples. By the weight: inputs.T @ grad.
        layer = rows_of(sums[sums_offset:], 0, inputs + 1, padded(outputs))
        _add_rows(grad, layer[inputs])
        if k == 0:
            product(x[:, :inputs].T, grad, layer[:inputs], False)
            if len(grad_x) == 0:
                return

        # By the inputs: grad @ weight. Two buffers in turn, since `grad` still lies in the other one.
        before = rows_of(spare[k % 2], 0, len(x), width)
        product(grad[:, :outputs], rows_of(packed[packed_offset:], 0, outputs, width), before, True)
        if k == 0:
            copy(before[:, :inputs], grad_x)
            return
        # The inputs of this layer are the outputs of the layer before, activation included.
        hidden_offset -= len(x) * width
        source = rows_of(hidden[hidden_offset:], 0, len(x), width)
        product(source[:, :inputs].T, grad, layer[:inputs], False)
        activation_grad(before, source, activation)
        grad = before


@compiled()
def num_units(sizes):
    """Return H, the units of all hidden layers with padding."""
    units = 0
    for k in range(1, len(sizes) - 1):
        units += padded(sizes[k])
    return units


@compiled()
def _spare_room(sizes):
    """Return buffers for the gradients of two layers and a block. Shape: (2, BLOCK * widest layer)."""
    widest = 0
    for size in sizes:
        widest = max(widest, padded(size))
    return np.empty((2, BLOCK * widest), np.float32)


@compiled()
def part_of(rows, threads, part):
    """Return the first row of a thread and the one after its last, in whole blocks."""
    # ceil(rows / (BLOCK threads)) blocks for each thread; the last threads may have fewer or none.
    share = -(-rows // (BLOCK * threads)) * BLOCK
    return min(part * share, rows), min((part + 1) * share, rows)


@compiled()
def forward_blocks(x, packed, sizes, activation, hidden, out):
    """Call `_forward_block` for any number of samples.

    `hidden` keeps only the last block if it has room for one.
    """
    units = num_units(sizes)
    width = padded(sizes[-1])
    kept = len(hidden) == len(x) * units
    for low in range(0, len(x), BLOCK):
        high = min(low + BLOCK, len(x))
        # Without a backward pass every block overwrites the one before, in the cache.
        first = 0
        if kept:
            first = low
        block = hidden[first * units : (first + high - low) * units]
        _forward_block(x[low:high], packed, sizes, activation, block, rows_of(out, low, high, width))


@compiled()
def _forward_rows(x, packed, sizes, activation, hidden, out, threads, part):
    """Run `_forward` for the rows of one thread."""
    units = num_units(sizes)
    width = padded(sizes[-1])
    begin, end = part_of(len(x), threads, part)
    if len(hidden) > 0:
        own = hidden[begin * units : end * units]
    else:
        # No backward pass follows: room for one block is enough.
        own = np.empty(BLOCK * units, np.float32)
    # Products write whole vectors, so the outputs are computed with padding and then copied without.
    last = np.empty((end - begin) * width, np.float32)
    forward_blocks(x[begin:end], packed, sizes, activation, own, last)
    copy(rows_of(last, 0, end - begin, width)[:, : sizes[-1]], out[begin:end])


@compiled(parallel=True)
def _forward(x, packed, sizes, activation, hidden, out, threads):
    """Fill in `hidden`, if it has room, and `out`."""
    # Numba's parallel index is unsigned; mixed with signed integers it would turn offsets into floats.
    for part in prange(threads):
        _forward_rows(x, packed, sizes, activation, hidden, out, threads, np.int64(part))


@compiled()
def backward_blocks(grad, x, packed, sizes, activation, hidden, sums, grad_x):
    """Call `_backward_block` for any number of samples; `hidden` holds the units block after block."""
    units = num_units(sizes)
    width = padded(sizes[-1])
    spare = _spare_room(sizes)
    for low in range(0, len(x), BLOCK):
        high = min(low + BLOCK, len(x))
        block = hidden[low * units : high * units]
        rows = rows_of(grad, low, high, width)
        # A slice of an empty array is empty too, which stands for "not needed".
        grad_x_rows = grad_x[low:high]
        _backward_block(rows, x[low:high], packed, sizes, activation, block, sums, spare, grad_x_rows)


@compiled()
def _backward_rows(grad, x, packed, sizes, activation, hidden, sums, grad_x, threads, part):
    """Run `_backward` for the rows of one thread."""
    units = num_units(sizes)
    width = padded(sizes[-1])
    begin, end = part_of(len(x), threads, part)
    # The products read whole vectors; `copy` fills the added columns with zeros.
    last = np.empty((end - begin) * width, np.float32)
    copy(grad[begin:end], rows_of(last, 0, end - begin, width))
    grad_x_rows = grad_x[begin:end]
    own = hidden[begin * units : end * units]
    backward_blocks(last, x[begin:end], packed, sizes, activation, own, sums[part], grad_x_rows)


@compiled(parallel=True)
def _backward(grad, x, packed, sizes, activation, hidden, sums, grad_x, threads):
    """Add gradients by parameters to every thread's sums; fill in those by features if `grad_x` has room."""
    # Every thread has sums of its own: no two threads ever write to the same number.
    for part in prange(threads):
        _backward_rows(grad, x, packed, sizes, activation, hidden, sums, grad_x, threads, np.int64(part))


def forward(
    x: Floats, flat: Floats, sizes: list[int], activation: str, *, threads: int, keep: bool
) -> tuple[Floats, Floats]:
    """Return the outputs of the last layer (B, O), and all hidden ones (B H,) if `keep`, else (0,).

    Args:
        x: features, (B, I), contiguous.
        flat: parameters, see `factory.kernels`.
        sizes: layer sizes, see `factory.kernels`.
        activation: of all layers but the last: tanh, elu or relu.
        threads: number of threads that share the samples.
        keep: whether `backward` will be called.

    Raises:
        ValueError: shapes do not fit.
    """
    check(x, len(x), sizes[0])
    check(flat, num_parameters(sizes))
    sizes_arr = np.array(sizes)
    # An empty array stands for "not kept".
    hidden = np.empty(len(x) * num_units(sizes_arr) * keep, np.float32)
    out = np.empty((len(x), sizes[-1]), np.float32)
    share(
        (_forward, _forward_rows),
        threads,
        x,
        pack_forward(flat, sizes_arr),
        sizes_arr,
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
    needs_input_grad: bool,
) -> tuple[Floats, Floats]:
    """Return gradients by parameters, laid out as `flat`, and by features if needed, (B, I), else (0, I).

    Args:
        grad: gradient by the outputs of the last layer, (B, O), contiguous.
        x: features passed to `forward`.
        flat: parameters passed to `forward`.
        hidden: hidden units that `forward` returned.
        sizes: layer sizes passed to `forward`.
        activation: activation passed to `forward`.
        threads: number of threads that share the samples.
        needs_input_grad: whether to return the gradient by features.

    Raises:
        ValueError: shapes do not fit.
    """
    check(grad, len(x), sizes[-1])
    sizes_arr = np.array(sizes)
    grads = np.empty_like(flat)
    grad_x = np.empty((len(x) * needs_input_grad, sizes[0]), np.float32)
    sums = empty_sums(sizes, threads)
    share(
        (_backward, _backward_rows),
        threads,
        grad,
        x,
        pack_backward(flat, sizes_arr),
        sizes_arr,
        ACTIVATIONS.index(activation),
        hidden,
        sums,
        grad_x,
    )
    as_flat(sums, sizes_arr, grads)
    return grads, grad_x


def prepare_passes(threads: int) -> None:
    """Compile the kernels of `forward` and `backward` before the first iteration, or load them."""
    # The smallest network with a hidden layer has every argument type of larger ones.
    number = np.zeros((1, 1), np.float32)
    flat = np.zeros(4, np.float32)
    sizes = [1, 1, 1]
    _, hidden = forward(number, flat, sizes, "tanh", threads=threads, keep=True)
    backward(number, number, flat, hidden, sizes, "tanh", threads=threads, needs_input_grad=False)
