"""The matrix product: a tile of the result stays in vector registers while factors stream by.

After Goto and van de Geijn 2008, doi:10.1145/1356052.1356053.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from factory.kernels.compiling import compiled

_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
# A tile has `_ROWS` rows of `_VECTORS` vectors of `LANES` numbers. Its sums, the columns and one spread
# number must fit the vector registers: 4 x 4 + 4 + 1 = 21 of AVX-512's 32, 6 x 2 + 2 + 1 = 15 of AVX2's 16.
if _WIDE:
    LANES = 16
    _ROWS = 4
    _VECTORS = 4
else:
    LANES = 8
    _ROWS = 6
    _VECTORS = 2


def _tile_of(rows: int, vectors: int) -> Any:
    """Return a function that adds rows of one factor times columns of the other to a tile of the result."""
    vector = ir.VectorType(ir.FloatType(), LANES)
    splat = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    nothing = ir.Constant(vector, ir.Undefined)

    @intrinsic
    def tile(typing: Any, a: Any, b: Any, c: Any, i: Any, j: Any, fresh: Any) -> Any:
        """Add `a[i:i + rows] @ b[:, j:j + columns]` to the tile of `c` at i, j, or write it if `fresh`."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a_type, b_type, c_type, *_ = signature.args
            *arrays, i, j, fresh = args
            a, b, c = (
                context.make_array(t)(context, builder, v)
                for t, v in zip(signature.args, arrays, strict=False)
            )
            number = lambda value: ir.Constant(i.type, value)
            item = lambda kind, array, *at: cgutils.get_item_pointer(context, builder, kind, array, list(at))
            load = lambda pointer: builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)
            down = [builder.add(i, number(row)) for row in range(rows)]
            right = [builder.add(j, number(k * LANES)) for k in range(vectors)]
            # Addresses of the tile's vectors, and their first values: zeros if `fresh`, else what `c` holds.
            places = [item(c_type, c, row, column) for row in down for column in right]
            start = [builder.select(fresh, ir.Constant(vector, None), load(place)) for place in places]
            entry = builder.block
            loop = builder.append_basic_block()
            end = builder.append_basic_block()
            depth = builder.extract_value(a.shape, 1)
            builder.branch(loop)

            builder.position_at_end(loop)
            # for k in range(depth): sums[row, column] += a[i + row, k] * b[k, j + column]
            k = builder.phi(i.type)
            sums = [builder.phi(vector) for _ in places]
            columns = [load(item(b_type, b, k, column)) for column in right]
            more = []
            for row in down:
                # One number of `a` in all lanes, times every column of `b`.
                one = builder.insert_element(
                    nothing, builder.load(item(a_type, a, row, k)), ir.Constant(ir.IntType(32), 0)
                )
                spread = builder.shuffle_vector(one, nothing, splat)
                more += [builder.fmul(spread, column, flags=("contract",)) for column in columns]
            more = [builder.fadd(s, m, flags=("contract",)) for s, m in zip(sums, more, strict=True)]
            next_k = builder.add(k, number(1))
            # A phi node takes its first value from before the loop and later ones from the previous round.
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


_tile = _tile_of(_ROWS, _VECTORS)
_tile_narrow = _tile_of(_ROWS, 1)
# Half as wide and twice as high: as many sums, for layers of 32 units with AVX-512.
_HALF = _VECTORS // 2
_tile_half = _tile_of(2 * _ROWS, _HALF)
_row = _tile_of(1, _VECTORS)
_row_half = _tile_of(1, _HALF)
_row_narrow = _tile_of(1, 1)


@compiled()
def product(a, b, c, fresh):
    """Add `a @ b` to `c`, or write it there if `fresh`.

    Shapes: (N, K), (K, J), (N, J), J whole vectors, K > 0.
    """
    rows, width = c.shape
    # Full tiles first; rows and columns that are left over go through narrower ones.
    whole = width // (_VECTORS * LANES) * (_VECTORS * LANES)
    tall = rows // _ROWS * _ROWS
    for j in range(0, whole, _VECTORS * LANES):
        for i in range(0, tall, _ROWS):
            _tile(a, b, c, i, j, fresh)
        for i in range(tall, rows):
            _row(a, b, c, i, j, fresh)
    halves = whole
    if width - whole >= _HALF * LANES:
        tallest = rows // (2 * _ROWS) * (2 * _ROWS)
        for i in range(0, tallest, 2 * _ROWS):
            _tile_half(a, b, c, i, whole, fresh)
        for i in range(tallest, rows):
            _row_half(a, b, c, i, whole, fresh)
        halves += _HALF * LANES
    for j in range(halves, width, LANES):
        for i in range(0, tall, _ROWS):
            _tile_narrow(a, b, c, i, j, fresh)
        for i in range(tall, rows):
            _row_narrow(a, b, c, i, j, fresh)
