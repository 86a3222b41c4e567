"""What is compiled for the processor at hand, by Numba: passes of perceptrons, and PPO's gradient through two of them.

Samples go through all layers in blocks that stay in the cache, every thread with blocks of its own. Matrix products
keep a tile of the result in vector registers (Goto and van de Geijn 2008, doi:10.1145/1356052.1356053). Weights are
copied with their columns filled up to whole vectors; the columns added stay zero in every layer, since every
activation maps zero to zero.

Shapes: B samples, I features, O outputs, H hidden units of all layers, each rounded up to whole vectors. `sizes` is
I, the units of every hidden layer, O; `flat` holds weight (outputs, inputs) and bias of one layer after the other.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

_ACTIVATIONS = ("tanh", "elu", "relu")
_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
_LANES = 16 if _WIDE else 8
"""Numbers in a vector register."""
_ROWS, _VECTORS = (4, 4) if _WIDE else (6, 2)
"""Of a tile: as many registers as hold it beside a row of one factor and a number of the other."""
_HALF_LOG_TAU = 0.5 * math.log(math.tau)
_BLOCK = 128
"""Samples that go through all layers at once."""
_CACHED = 50_000
"""Parameters whose copies and gradients leave room in a core's cache for what layers put out."""
_one_at_a_time = threading.Lock()
"""Not every way in which Numba starts threads may be entered twice at once."""


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function at its first call, once for all processes where that can be kept."""
    compiled = functools.partial(njit, nogil=True, error_model="numpy", fastmath={"contract"}, **options)

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return compiled(cache=True)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            return compiled()(function)

    return decorate


def _tile_of(rows: int, vectors: int) -> Any:
    """Return a function that adds rows of one factor times columns of the other to a tile of the result."""
    vector = ir.VectorType(ir.FloatType(), _LANES)
    splat = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    nothing = ir.Constant(vector, ir.Undefined)

    @intrinsic
    def tile(typing: Any, a: Any, b: Any, c: Any, i: Any, j: Any, fresh: Any) -> Any:
        """Add `a[i:i + rows] @ b[:, j:j + columns]` to the tile of `c` at i, j, or write it there if `fresh`."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (a_type, b_type, c_type, *_), (*arrays, i, j, fresh) = signature.args, args
            a, b, c = (context.make_array(t)(context, builder, v) for t, v in zip(signature.args, arrays, strict=False))
            number = lambda value: ir.Constant(i.type, value)
            item = lambda kind, array, *at: cgutils.get_item_pointer(context, builder, kind, array, list(at))
            load = lambda pointer: builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)
            down = [builder.add(i, number(row)) for row in range(rows)]
            right = [builder.add(j, number(k * _LANES)) for k in range(vectors)]
            places = [item(c_type, c, row, column) for row in down for column in right]
            start = [builder.select(fresh, ir.Constant(vector, None), load(place)) for place in places]
            entry, loop, end = builder.block, builder.append_basic_block(), builder.append_basic_block()
            depth = builder.extract_value(a.shape, 1)
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(i.type)
            sums = [builder.phi(vector) for _ in places]
            columns = [load(item(b_type, b, k, column)) for column in right]
            more = []
            for row in down:
                one = builder.insert_element(
                    nothing, builder.load(item(a_type, a, row, k)), ir.Constant(ir.IntType(32), 0)
                )
                spread = builder.shuffle_vector(one, nothing, splat)
                more += [builder.fmul(spread, column, flags=("contract",)) for column in columns]
            more = [builder.fadd(s, m, flags=("contract",)) for s, m in zip(sums, more, strict=True)]
            next_k = builder.add(k, number(1))
            for value, first, then in [(k, number(0), next_k), *zip(sums, start, more, strict=True)]:
                value.add_incoming(first, entry)
                value.add_incoming(then, loop)
            builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, end)

            builder.position_at_end(end)
            for value, place in zip(more, places, strict=True):
                builder.store(value, builder.bitcast(place, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(a, b, c, types.intp, types.intp, types.boolean), generate

    return tile


_tile, _tile_narrow = _tile_of(_ROWS, _VECTORS), _tile_of(_ROWS, 1)
_row, _row_narrow = _tile_of(1, _VECTORS), _tile_of(1, 1)


@_compiled()
def _product(a, b, c, fresh):
    """Add `a @ b` to `c`, or write it there if `fresh`. Shapes: (N, K), (K, J), (N, J), J whole vectors, K > 0."""
    rows, width = c.shape
    whole, tall = width // (_VECTORS * _LANES) * (_VECTORS * _LANES), rows // _ROWS * _ROWS
    for j in range(0, whole, _VECTORS * _LANES):
        for i in range(0, tall, _ROWS):
            _tile(a, b, c, i, j, fresh)
        for i in range(tall, rows):
            _row(a, b, c, i, j, fresh)
    for j in range(whole, width, _LANES):
        for i in range(0, tall, _ROWS):
            _tile_narrow(a, b, c, i, j, fresh)
        for i in range(tall, rows):
            _row_narrow(a, b, c, i, j, fresh)


@intrinsic
def _float_of_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 that these bits are."""
    generate = lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())
    return types.float32(types.int32), generate


@njit(inline="always")
def _expm1(x):
    """Return exp(x) - 1 for x <= 0 to float32 precision (Cephes, https://www.netlib.org/cephes, expf)."""
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    n = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return (p * r * r + r) * power + (power - np.float32(1.0))


@_compiled()
def _activate(value, bias, activation):
    """Replace sums by what a layer puts out of them. Shapes: (N, J), (J,)."""
    rows, width = value.shape
    for i in range(rows):
        if activation == 0:
            for j in range(width):
                x = value[i, j] + bias[j]
                t = _expm1(np.float32(-2.0) * abs(x))
                value[i, j] = np.copysign(t / (t + np.float32(2.0)), x)
        elif activation == 1:
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


@_compiled()
def _deactivate(grad, value, activation):
    """Turn the gradient after an activation, which put out `value`, into that before it. Shapes: (N, J)."""
    rows, width = grad.shape
    for i in range(rows):
        if activation == 0:
            for j in range(width):
                grad[i, j] *= np.float32(1.0) - value[i, j] * value[i, j]
        elif activation == 1:
            for j in range(width):
                y = value[i, j]
                grad[i, j] *= y + np.float32(1.0) if y < np.float32(0.0) else np.float32(1.0)
        else:
            for j in range(width):
                grad[i, j] *= np.float32(1.0) if value[i, j] > np.float32(0.0) else np.float32(0.0)


@_compiled()
def _padded(size):
    """Return a number of columns rounded up to whole vectors."""
    return -(-size // _LANES) * _LANES


@_compiled()
def _rows(values, low, high, width):
    """Return rows low to high of a matrix that lies in `values` from the start. Shape: (high - low, width)."""
    return values[low * width : high * width].reshape(high - low, width)


@_compiled()
def _copy(source, target):
    """Fill the target's rows with the source's, and with zeros where it has more columns."""
    rows, columns = source.shape
    for i in range(rows):
        for j in range(columns):
            target[i, j] = source[i, j]
        for j in range(columns, target.shape[1]):
            target[i, j] = 0.0


@_compiled()
def _by_input(flat, sizes):
    """Return weights and bias of layer after layer as (inputs + 1, outputs filled up), the bias last."""
    total = 0
    for k in range(len(sizes) - 1):
        total += (sizes[k] + 1) * _padded(sizes[k + 1])
    filled = np.zeros(total, np.float32)
    start = at = 0
    for k in range(len(sizes) - 1):
        inputs, outputs = sizes[k], sizes[k + 1]
        layer = _rows(filled[at:], 0, inputs + 1, _padded(outputs))
        _transpose(_rows(flat[start:], 0, outputs, inputs), layer)
        for o in range(outputs):
            layer[inputs, o] = flat[start + outputs * inputs + o]
        start, at = start + outputs * (inputs + 1), at + layer.size
    return filled


@_compiled()
def _by_output(flat, sizes):
    """Return the weights of layer after layer as (outputs, inputs filled up)."""
    total = 0
    for k in range(len(sizes) - 1):
        total += sizes[k + 1] * _padded(sizes[k])
    filled = np.zeros(total, np.float32)
    start = at = 0
    for k in range(len(sizes) - 1):
        inputs, outputs = sizes[k], sizes[k + 1]
        layer = _rows(filled[at:], 0, outputs, _padded(inputs))
        _copy(_rows(flat[start:], 0, outputs, inputs), layer)
        start, at = start + outputs * (inputs + 1), at + layer.size
    return filled


@_compiled()
def _transpose(matrix, result):
    """Write the transpose of a matrix into the result, as far as both reach."""
    rows, columns = min(matrix.shape[0], result.shape[1]), min(matrix.shape[1], result.shape[0])
    for i0 in range(0, rows, 16):
        for j0 in range(0, columns, 16):
            for j in range(j0, min(j0 + 16, columns)):
                for i in range(i0, min(i0 + 16, rows)):
                    result[j, i] = matrix[i, j]


@_compiled()
def _add_rows(rows, total):
    """Add the sum of rows to the total. Shapes: (N, J), (J,)."""
    for i in range(len(rows)):
        for j in range(len(total)):
            total[j] += rows[i, j]


@_compiled()
def _forward_block(x, filled, sizes, activation, hidden, out):
    """Fill in what every layer puts out. Shapes: (N, I), ... -> (N H,) layer after layer, (N, O filled up)."""
    layers = len(sizes) - 1
    at = left = 0
    source = x[:, : sizes[0]]
    for k in range(layers):
        inputs, width = sizes[k], _padded(sizes[k + 1])
        layer = _rows(filled[at:], 0, inputs + 1, width)
        target = out if k == layers - 1 else _rows(hidden[len(x) * left :], 0, len(x), width)
        _product(source, layer[:inputs], target, True)
        _activate(target, layer[inputs], -1 if k == layers - 1 else activation)
        source = target[:, : sizes[k + 1]]
        at, left = at + layer.size, left + width


@_compiled()
def _backward_block(grad, x, filled, sizes, activation, hidden, sums, spare, grad_x):
    """Add gradients by parameters to `sums`, laid out as `_by_input` does; fill in `grad_x` if it has rows.

    Shapes: (N, O filled up), (N, I), ..., (N H,) -> ..., (N, I) or (0, I). `spare` is room for two layers.
    """
    at, over, left = len(sums), len(filled), len(hidden)
    for k in range(len(sizes) - 2, -1, -1):
        inputs, outputs, width = sizes[k], sizes[k + 1], _padded(sizes[k])
        at, over = at - (inputs + 1) * _padded(outputs), over - outputs * width
        layer = _rows(sums[at:], 0, inputs + 1, _padded(outputs))
        _add_rows(grad, layer[inputs])
        if k == 0:
            _product(x[:, :inputs].T, grad, layer[:inputs], False)
            if len(grad_x) == 0:
                return
        before = _rows(spare[k % 2], 0, len(x), width)
        _product(grad[:, :outputs], _rows(filled[over:], 0, outputs, width), before, True)
        if k == 0:
            _copy(before[:, :inputs], grad_x)
            return
        left -= len(x) * width
        source = _rows(hidden[left:], 0, len(x), width)
        _product(source[:, :inputs].T, grad, layer[:inputs], False)
        _deactivate(before, source, activation)
        grad = before


@_compiled()
def _units(sizes):
    """Return H."""
    units = 0
    for k in range(1, len(sizes) - 1):
        units += _padded(sizes[k])
    return units


@_compiled()
def _spare(sizes):
    """Return room for what two layers put out for a block. Shape: (2, _BLOCK * widest layer)."""
    widest = 0
    for size in sizes:
        widest = max(widest, _padded(size))
    return np.empty((2, _BLOCK * widest), np.float32)


@_compiled()
def _part(rows, threads, part):
    """Return the first and one after the last of a thread's rows, which are whole blocks."""
    share = -(-rows // (_BLOCK * threads)) * _BLOCK
    return min(part * share, rows), min((part + 1) * share, rows)


@_compiled()
def _forward_rows(x, filled, sizes, activation, hidden, out, threads, part):
    """Do what `_forward` does for the rows of one of its threads."""
    units = _units(sizes)
    unkept = np.empty(_BLOCK * units if len(hidden) == 0 else 0, np.float32)
    last = np.empty(_BLOCK * _padded(sizes[-1]), np.float32)
    begin, end = _part(len(x), threads, part)
    for low in range(begin, end, _BLOCK):
        high = min(low + _BLOCK, end)
        block = hidden[low * units : high * units] if len(hidden) > 0 else unkept[: (high - low) * units]
        result = _rows(last, 0, high - low, _padded(sizes[-1]))
        _forward_block(x[low:high], filled, sizes, activation, block, result)
        _copy(result[:, : sizes[-1]], out[low:high])


@_compiled(parallel=True)
def _forward(x, filled, sizes, activation, hidden, out, threads):
    """Fill in `hidden`, if it has room, and `out`."""
    for part in prange(threads):
        _forward_rows(x, filled, sizes, activation, hidden, out, threads, np.int64(part))


@_compiled()
def _backward_rows(grad, x, filled, sizes, activation, hidden, sums, grad_x, threads, part):
    """Do what `_backward` does for the rows of one of its threads."""
    units, spare = _units(sizes), _spare(sizes)
    last = np.empty(_BLOCK * _padded(sizes[-1]), np.float32)
    begin, end = _part(len(x), threads, part)
    for low in range(begin, end, _BLOCK):
        high = min(low + _BLOCK, end)
        result = _rows(last, 0, high - low, _padded(sizes[-1]))
        _copy(grad[low:high], result)
        block = hidden[low * units : high * units]
        by_x = grad_x[low:high] if len(grad_x) > 0 else grad_x
        _backward_block(result, x[low:high], filled, sizes, activation, block, sums[part], spare, by_x)


@_compiled(parallel=True)
def _backward(grad, x, filled, sizes, activation, hidden, sums, grad_x, threads):
    """Add gradients by parameters to every thread's sums; fill in those by features if `grad_x` has room."""
    for part in prange(threads):
        _backward_rows(grad, x, filled, sizes, activation, hidden, sums, grad_x, threads, np.int64(part))


@_compiled()
def _as_flat(sums, sizes, grads):
    """Fill in the sum over threads of what was added up, laid out as `flat`. Shapes: (threads, ...) -> (P,)."""
    for part in range(1, len(sums)):
        for k in range(sums.shape[1]):
            sums[0, k] += sums[part, k]
    start = at = 0
    for k in range(len(sizes) - 1):
        inputs, outputs = sizes[k], sizes[k + 1]
        layer = _rows(sums[0, at:], 0, inputs + 1, _padded(outputs))
        _transpose(layer[:inputs], _rows(grads[start:], 0, outputs, inputs))
        for o in range(outputs):
            grads[start + outputs * inputs + o] = layer[inputs, o]
        start, at = start + outputs * (inputs + 1), at + layer.size


@_compiled()
def _surrogate(means, values, actions, numbers, log_std, coefficients, sums):
    """Replace means and values by the loss's gradients by them; add up what `ppo_gradient` returns beside them.

    Shapes: (N, A filled up), (N, 1 filled up), (N, A), (5, N), (A,), (3,), (A + 6,).
    """
    clip_coef, value_coef, entropy_coef = coefficients
    size = len(log_std)
    precision = np.empty(size, np.float32)
    entropy = log_normalizer = np.float32(0.0)
    for d in range(size):
        precision[d] = math.exp(np.float32(-2.0) * log_std[d])
        log_normalizer += log_std[d] + np.float32(_HALF_LOG_TAU)
        entropy += log_std[d] + np.float32(0.5 + _HALF_LOG_TAU)
    for i in range(len(means)):
        old_log_prob, advantage, bound = numbers[0, i], numbers[1, i], numbers[2, i]
        target, live = numbers[3, i], numbers[4, i]
        distance = np.float32(0.0)
        for d in range(size):
            z = actions[i, d] - means[i, d]
            distance += z * z * precision[d]
        log_ratio = np.float32(-0.5) * distance - log_normalizer - old_log_prob
        ratio = math.exp(log_ratio)
        surrogate, error, excess = ratio * advantage, values[i, 0] - target, ratio - np.float32(1.0)
        within = np.float32(0.0) if surrogate > bound else np.float32(1.0)
        by_log_prob = -surrogate * within * live
        for d in range(size):
            z = actions[i, d] - means[i, d]
            means[i, d] = by_log_prob * z * precision[d]
            sums[d] += by_log_prob * (z * z * precision[d] - np.float32(1.0)) - entropy_coef * live
        values[i, 0] = value_coef * error * live
        sums[size] -= (bound if surrogate > bound else surrogate) * live
        sums[size + 1] += error * error * live
        sums[size + 2] += entropy * live
        sums[size + 3] += (excess - log_ratio) * live
        sums[size + 4] += live if abs(excess) > clip_coef else np.float32(0.0)
        sums[size + 5] += live


@_compiled()
def _forward_chunk(x, filled, sizes, activation, hidden, out):
    """Do as `_forward_block`, for any number of samples, of which `hidden` has block after block."""
    units, width = _units(sizes), _padded(sizes[-1])
    for low in range(0, len(x), _BLOCK):
        high = min(low + _BLOCK, len(x))
        block = hidden[low * units : high * units]
        _forward_block(x[low:high], filled, sizes, activation, block, _rows(out, low, high, width))


@_compiled()
def _backward_chunk(grad, x, filled, sizes, activation, hidden, sums, spare):
    """Do as `_backward_block`, for any number of samples, of which `hidden` has block after block."""
    units, width, nothing = _units(sizes), _padded(sizes[-1]), np.empty((0, 0), np.float32)
    for low in range(0, len(x), _BLOCK):
        high = min(low + _BLOCK, len(x))
        block, rows = hidden[low * units : high * units], _rows(grad, low, high, width)
        _backward_block(rows, x[low:high], filled, sizes, activation, block, sums, spare, nothing)


@_compiled()
def _gradient_rows(
    obs, critic_obs, actions, numbers, log_std, coefficients, actor, critic, activation, sums, threads, part
):
    """Do what `_gradient` does for the rows of one of its threads."""
    actor_in, actor_out, actor_sizes, actor_sums = actor
    critic_in, critic_out, critic_sizes, critic_sums = critic
    actor_spare, critic_spare = _spare(actor_sizes), _spare(critic_sizes)
    begin, end = _part(len(obs), threads, part)
    # What layers put out stays in the cache until the way back, unless weights alone fill it.
    chunk = _BLOCK if len(actor_in) + len(critic_in) < _CACHED else max(end - begin, 1)
    actor_hidden = np.empty(chunk * _units(actor_sizes), np.float32)
    critic_hidden = np.empty(chunk * _units(critic_sizes), np.float32)
    means = np.empty(chunk * _padded(actor_sizes[-1]), np.float32)
    values = np.empty(chunk * _padded(1), np.float32)
    for low in range(begin, end, chunk):
        high = min(low + chunk, end)
        seen, critic_seen = obs[low:high], critic_obs[low:high]
        _forward_chunk(seen, actor_in, actor_sizes, activation, actor_hidden, means)
        _forward_chunk(critic_seen, critic_in, critic_sizes, activation, critic_hidden, values)
        _surrogate(
            _rows(means, 0, high - low, _padded(actor_sizes[-1])), _rows(values, 0, high - low, _padded(1)),
            actions[low:high], numbers[:, low:high], log_std, coefficients, sums[part],
        )  # fmt: skip
        _backward_chunk(means, seen, actor_out, actor_sizes, activation, actor_hidden, actor_sums[part], actor_spare)
        _backward_chunk(
            values, critic_seen, critic_out, critic_sizes, activation, critic_hidden, critic_sums[part], critic_spare
        )


@_compiled(parallel=True)
def _gradient(obs, critic_obs, actions, numbers, log_std, coefficients, actor, critic, activation, sums, threads):
    """Add to every thread's sums: of the loss's figures, and of the gradients by actor and critic."""
    for part in prange(threads):
        _gradient_rows(
            obs,
            critic_obs,
            actions,
            numbers,
            log_std,
            coefficients,
            actor,
            critic,
            activation,
            sums,
            threads,
            np.int64(part),
        )


Floats = npt.NDArray[np.float32]


def forward(
    x: Floats, flat: Floats, sizes: list[int], activation: str, *, threads: int, keep: bool
) -> tuple[Floats, Floats]:
    """Return what the last layer puts out, (B, O), and all hidden ones if asked to `keep` it, (B H,), else (0,).

    Args:
        x: features, (B, I), contiguous.
        flat: parameters, see above.
        sizes: see above.
        activation: after every layer but the last: tanh, elu or relu.
        threads: that share the samples.
        keep: whether `backward` will be called.
    """
    at = np.array(sizes)
    hidden, out = np.empty(len(x) * _units(at) * keep, np.float32), np.empty((len(x), sizes[-1]), np.float32)
    _share((_forward, _forward_rows), threads, x, _by_input(flat, at), at, _ACTIVATIONS.index(activation), hidden, out)
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
    """
    at, grads, grad_x = np.array(sizes), np.empty_like(flat), np.empty((len(x) * by_x, sizes[0]), np.float32)
    sums, code = _empty_sums(sizes, threads), _ACTIVATIONS.index(activation)
    _share((_backward, _backward_rows), threads, grad, x, _by_output(flat, at), at, code, hidden, sums, grad_x)
    _as_flat(sums, at, grads)
    return grads, grad_x


def ppo_gradient(
    obs: Floats, critic_obs: Floats, actions: Floats, numbers: Floats, flat: Floats, actor: list[int],
    critic: list[int], activation: str, *, clip_coef: float, value_coef: float, entropy_coef: float, threads: int,
) -> Floats:  # fmt: skip
    """Return the gradient of PPO's loss, summed over live samples, by all parameters, and sums of six figures.

    Actions are Gaussian with a deviation of their own; the loss is -min(r A, bound) + value_coef / 2 error^2
    - entropy_coef entropy, with r the ratio of probabilities. Shape: (P + 6,): as `flat`; then sums of policy loss,
    squared error, entropy, KL estimate (k3, Schulman, http://joschu.net/blog/kl-approx.html), clipped and live samples.

    Args:
        obs: the actor's, (B, I).
        critic_obs: the critic's, (B, J).
        actions: (B, A).
        numbers: old log-probability, advantage, bound, return and live of every sample, (5, B).
        flat: logarithm of the deviation (A,), actor and critic, each as above, (P,).
        actor: sizes of the actor.
        critic: sizes of the critic.
        activation: of both: tanh, elu or relu.
        clip_coef: ratios further from 1 count as clipped.
        value_coef: of the loss.
        entropy_coef: of the loss.
        threads: that share the samples.
    """
    size = actor[-1]
    middle = size + sum((a + 1) * b for a, b in itertools.pairwise(actor))
    nets = [
        (_by_input(part, at), _by_output(part, at), at, _empty_sums(sizes, threads))
        for part, sizes in ((flat[size:middle], actor), (flat[middle:], critic))
        for at in [np.array(sizes)]
    ]
    coefficients = np.array([clip_coef, value_coef, entropy_coef], np.float32)
    sums = np.zeros((threads, size + 6))
    _share(
        (_gradient, _gradient_rows), threads, obs, critic_obs, actions, numbers, flat[:size], coefficients, *nets,
        _ACTIVATIONS.index(activation), sums,
    )  # fmt: skip
    result = np.empty(len(flat) + 6, np.float32)
    total = sums.sum(0)
    result[:size], result[-6:] = total[:size], total[size:]
    for (_, _, at, added), grads in zip(nets, (result[size:middle], result[middle:-6]), strict=True):
        _as_flat(added, at, grads)
    return result


def _empty_sums(sizes: list[int], threads: int) -> Floats:
    """Return zeros for every thread, laid out as `_by_input` has parameters. Shape: (threads, ...)."""
    return np.zeros((threads, sum((a + 1) * _padded(b) for a, b in itertools.pairwise(sizes))), np.float32)


def _share(kernels: tuple[Callable[..., None], Callable[..., None]], threads: int, *args: Any) -> None:
    """Run a kernel in several threads, or its part in this one."""
    together, part = kernels
    if threads == 1:
        part(*args, 1, 0)
        return
    with _one_at_a_time:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        together(*args, threads)
