"""Networks as the kernels see them: a perceptron, alone or behind the maximum over the elements of a set.

The set lies at the end of a sample. Each of its elements goes through the perceptron `encoder`; the largest
value of each output joins the features before the set as the input of the perceptron `trunk`:

    sample = (own, element 1, ..., element E)
    codes  = encoder(element 1), ..., encoder(element E)      -> Room.codes
    joined = (own, max over the elements of every code)       -> Room.joined, Room.which
    output = trunk(joined)

`Room` keeps these on the way forward. The way back goes through trunk, maximum and encoder in this order; the
gradient by the sample itself is not computed. Without a set there is only the trunk.

Sets often have room for more elements than there are, and absent ones are all alike: the encoder computes
equal elements once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from factory.kernels.activation import ACTIVATIONS
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
from factory.kernels.passes import BLOCK, backward_blocks, forward_blocks, num_units, part_of


class Network(NamedTuple):
    """Layer sizes of a network."""

    trunk: list[int]
    encoder: list[int] = []
    """Empty without a set."""
    elements: int = 0
    """Elements of the set."""

    @property
    def num_parameters(self) -> int:
        """Weights and biases, those of the encoder first."""
        return num_parameters(self.encoder) + num_parameters(self.trunk)

    @property
    def num_inputs(self) -> int:
        """Features of a sample, those of the set included."""
        if not self.elements:
            return self.trunk[0]
        return self.trunk[0] - self.encoder[-1] + self.elements * self.encoder[0]


class LaidOut(NamedTuple):
    """A network's parameters for both passes, sizes, and gradients of every thread."""

    trunk_in: Floats
    trunk_out: Floats
    trunk_sizes: npt.NDArray[np.int64]
    trunk_sums: Floats
    encoder_in: Floats
    encoder_out: Floats
    encoder_sizes: npt.NDArray[np.int64]
    encoder_sums: Floats
    elements: int


class Room(NamedTuple):
    """Buffers for the passes of N samples with E elements each; those of the set are empty without one."""

    elements: Floats
    """Elements of the sets as rows, equal ones once. Shape: (N E, features)."""
    num_elements: npt.NDArray[np.int64]
    """Number of rows that are used. Shape: (1,)."""
    row_of: npt.NDArray[np.int32]
    """Row of every element. Shape: (N, E)."""
    encoder_hidden: Floats
    codes: Floats
    """Outputs of the encoder, later the gradients by them, with padding. Shape: (N E codes padded,)."""
    which: npt.NDArray[np.int32]
    """Row of the element with the largest value of every output. Shape: (N, codes)."""
    joined: Floats
    """Inputs of the trunk. Shape: (N, inputs)."""
    joined_grad: Floats
    trunk_hidden: Floats


def laid_out(flat: Floats, network: Network, threads: int) -> LaidOut:
    """Return a network with parameters `flat`, the encoder's first. Shape: (P,)."""
    middle = num_parameters(network.encoder)
    parts: list[Any] = []
    for own, sizes in ((flat[middle:], network.trunk), (flat[:middle], network.encoder)):
        # Each pass streams through the weights in an order of its own, so they are packed twice.
        sizes_arr = np.array(sizes, np.int64)
        packed = (pack_forward(own, sizes_arr), pack_backward(own, sizes_arr))
        parts += [*packed, sizes_arr, empty_sums(sizes, threads)]
    return LaidOut(*parts, network.elements)  # type: ignore[call-arg]


def gradient_of(net: LaidOut, network: Network, result: Floats) -> None:
    """Add up the gradients of all threads and write them to `result`, laid out as the parameters."""
    middle = num_parameters(network.encoder)
    as_flat(net.encoder_sums, net.encoder_sizes, result[:middle])
    as_flat(net.trunk_sums, net.trunk_sizes, result[middle:])


@compiled()
def num_weights(net):
    """Return the number of packed parameters."""
    return len(net.trunk_in) + len(net.encoder_in)


@compiled()
def make_room(net, rows):
    """Return buffers for `rows` samples."""
    # Without a set all of its buffers are empty, so that both kinds of networks have the same types.
    features = 0
    codes = 0
    joined = 0
    if net.elements > 0:
        features = net.encoder_sizes[0]
        codes = net.encoder_sizes[-1]
        joined = net.trunk_sizes[0]
    elements = rows * net.elements
    joining = 0
    if net.elements > 0:
        joining = rows
    return Room(
        np.empty((elements, features), np.float32),
        np.zeros(1, np.int64),
        np.empty((joining, net.elements), np.int32),
        np.empty(elements * num_units(net.encoder_sizes), np.float32),
        np.empty(elements * padded(codes), np.float32),
        np.empty((joining, codes), np.int32),
        np.empty((joining, joined), np.float32),
        np.empty((joining, joined), np.float32),
        np.empty(rows * num_units(net.trunk_sizes), np.float32),
    )


@compiled()
def _are_equal(one, other):
    """Return whether two vectors are equal."""
    is_equal = True
    for j in range(len(one)):
        is_equal &= one[j] == other[j]
    return is_equal


@compiled()
def _gather_distinct(x, own, room):
    """Copy the elements of all samples to rows of their own, and note which row each one has.

    An element that came twice in a row shares the row, there and wherever it comes again.
    """
    count = room.row_of.shape[1]
    size = room.elements.shape[1]
    used = 0
    repeated = -1
    for i in range(len(x)):
        for k in range(count):
            element = x[i, own + k * size : own + (k + 1) * size]
            if k > 0 and _are_equal(room.elements[room.row_of[i, k - 1]], element):
                repeated = np.int64(room.row_of[i, k - 1])
            if repeated >= 0 and _are_equal(room.elements[repeated], element):
                room.row_of[i, k] = repeated
                continue
            for j in range(size):
                room.elements[used, j] = element[j]
            room.row_of[i, k] = used
            used += 1
    room.num_elements[0] = used


@compiled()
def _join(x, codes, row_of, which, joined):
    """Fill the inputs of the trunk with the features before the set and the largest codes."""
    rows, width = which.shape
    # Columns of `joined`: features before the set, then one for each code.
    own = joined.shape[1] - width
    for i in range(rows):
        for j in range(own):
            joined[i, j] = x[i, j]
        largest = joined[i, own:]
        row_of_largest = which[i]
        row = row_of[i, 0]
        for j in range(width):
            largest[j] = codes[row, j]
            row_of_largest[j] = row
        # Element by element, so that the inner loop runs along the memory; selections instead of branches.
        for k in range(1, row_of.shape[1]):
            row = row_of[i, k]
            code = codes[row]
            for j in range(width):
                is_larger = code[j] > largest[j]
                row_of_largest[j] = row if is_larger else row_of_largest[j]
                largest[j] = code[j] if is_larger else largest[j]


@compiled()
def network_forward(x, net, activation, room, out):
    """Compute the outputs of a network, and keep in `room` what `network_backward` needs.

    Shapes: (N, I), ... -> (N O padded,).
    """
    rows = len(x)
    trunk_hidden = room.trunk_hidden[: rows * num_units(net.trunk_sizes)]
    if net.elements == 0:
        forward_blocks(x, net.trunk_in, net.trunk_sizes, activation, trunk_hidden, out)
        return
    width = room.which.shape[1]
    own = net.trunk_sizes[0] - width
    # From one row a sample to one row an element: these are the samples of the encoder.
    _gather_distinct(x, own, room)
    num_elements = room.num_elements[0]
    elements = room.elements[:num_elements]
    hidden = room.encoder_hidden[: num_elements * num_units(net.encoder_sizes)]
    forward_blocks(elements, net.encoder_in, net.encoder_sizes, activation, hidden, room.codes)
    codes = rows_of(room.codes, 0, num_elements, padded(width))
    joined = room.joined[:rows]
    # Which element had the maximum is kept for the way back.
    _join(x, codes, room.row_of, room.which[:rows], joined)
    forward_blocks(joined, net.trunk_in, net.trunk_sizes, activation, trunk_hidden, out)


@compiled()
def network_backward(grad, x, net, activation, room, part):
    """Add the gradients by parameters to the sums of a thread. Shapes: (N O padded,), (N, I)."""
    rows = len(x)
    trunk_hidden = room.trunk_hidden[: rows * num_units(net.trunk_sizes)]
    trunk_sums = net.trunk_sums[part]
    if net.elements == 0:
        # No gradient by observations is needed: an empty array stands for none.
        backward_blocks(
            grad, x, net.trunk_out, net.trunk_sizes, activation, trunk_hidden, trunk_sums, room.joined_grad
        )
        return
    joined_grad = room.joined_grad[:rows]
    backward_blocks(
        grad,
        room.joined[:rows],
        net.trunk_out,
        net.trunk_sizes,
        activation,
        trunk_hidden,
        trunk_sums,
        joined_grad,
    )
    # The gradient by a maximum goes to the element that has it.
    num_elements = room.num_elements[0]
    width = room.which.shape[1]
    own = net.trunk_sizes[0] - width
    codes = rows_of(room.codes, 0, num_elements, padded(width))
    # The codes themselves are not needed any more; their buffer now holds the gradients by them.
    codes[:] = np.float32(0.0)
    for i in range(rows):
        for j in range(width):
            codes[room.which[i, j], j] += joined_grad[i, own + j]
    hidden = room.encoder_hidden[: num_elements * num_units(net.encoder_sizes)]
    nothing = np.empty((0, 0), np.float32)
    backward_blocks(
        room.codes,
        room.elements[:num_elements],
        net.encoder_out,
        net.encoder_sizes,
        activation,
        hidden,
        net.encoder_sums[part],
        nothing,
    )


@compiled()
def _outputs_rows(x, net, activation, out, threads, part):
    """Run `_outputs` for the rows of one thread."""
    begin, end = part_of(len(x), threads, part)
    # One block at a time: nothing is kept, so the buffers stay in the cache.
    room = make_room(net, BLOCK)
    width = padded(net.trunk_sizes[-1])
    block = np.empty(BLOCK * width, np.float32)
    for low in range(begin, end, BLOCK):
        high = min(low + BLOCK, end)
        network_forward(x[low:high], net, activation, room, block)
        copy(rows_of(block, 0, high - low, width)[:, : net.trunk_sizes[-1]], out[low:high])


@compiled(parallel=True)
def _outputs(x, net, activation, out, threads):
    """Fill in `out`."""
    for part in prange(threads):
        _outputs_rows(x, net, activation, out, threads, np.int64(part))


def network_outputs(x: Floats, flat: Floats, network: Network, activation: str, *, threads: int) -> Floats:
    """Return the outputs of a network for B samples. Shape: (B, O).

    Args:
        x: samples, (B, I), contiguous.
        flat: parameters, the encoder's first, see `factory.kernels`.
        network: layer sizes.
        activation: of all layers but the last ones: tanh, elu or relu.
        threads: number of threads that share the samples.

    Raises:
        ValueError: shapes do not fit.
    """
    check(x, len(x), network.num_inputs)
    check(flat, network.num_parameters)
    out = np.empty((len(x), network.trunk[-1]), np.float32)
    kind = ACTIVATIONS.index(activation)
    share((_outputs, _outputs_rows), threads, x, laid_out(flat, network, threads), kind, out)
    return out
