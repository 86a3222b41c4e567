"""Free space and shortest paths on a grid, in integers, so that all machines get the same.

Lengths are millimetres. A hall is a square with a corner at the origin; a box is (x, y, half length, half
width, turn), turned by multiples of 15 degrees.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.kernels.compiling import compiled

Ints = npt.NDArray[np.int32]

CELL_MM = 100
"""Edge of a cell."""
TURN_DEG = 15
"""Unit of a box's turn."""
UNREACHABLE_MM = 2**30
"""Length of the path from a cell without one."""
_COSINES = np.array([10000, 9659, 8660, 7071, 5000, 2588, 0], np.int64)
"""Cosine of 0, 15, ..., 90 degrees, in ten-thousandths."""
_UNIT = 10000
_STEPS = np.array(
    [
        *[(1, 0, 100), (0, 1, 100), (-1, 0, 100), (0, -1, 100)],
        *[(1, 1, 141), (-1, 1, 141), (-1, -1, 141), (1, -1, 141)],
        *[(2, 1, 224), (1, 2, 224), (-1, 2, 224), (-2, 1, 224)],
        *[(-2, -1, 224), (-1, -2, 224), (1, -2, 224), (2, -1, 224)],
    ],
    np.int64,
)
"""Moves to other cells with their lengths; the knight's moves keep paths within 3 % of the true length."""
_DETOUR = 3
"""Factor on the length of a move into a cell that is not free, where a robot must leave it again."""
_LONGEST = 3 * 224
"""Longest move, hence the range of lengths that wait in the queue."""


@compiled()
def squared_gap(x: int, y: int, box: Ints, cosines: npt.NDArray[np.int64]) -> int:  # pragma: no cover
    """Return the squared distance of a point from a box, 0 inside [(1e-4 mm)^2]."""
    turn = box[4]
    # Boxes are turned by 0 to 165 degrees.
    if turn <= 6:
        cos = cosines[turn]
        sin = cosines[6 - turn]
    else:
        cos = -cosines[12 - turn]
        sin = cosines[turn - 6]
    # In the box's frame, lengths times 10000 as the cosines are.
    along = (x - box[0]) * cos + (y - box[1]) * sin
    across = (y - box[1]) * cos - (x - box[0]) * sin
    gap_along = max(abs(along) - box[2] * _UNIT, 0)
    gap_across = max(abs(across) - box[3] * _UNIT, 0)
    return gap_along * gap_along + gap_across * gap_across


@compiled()
def _free_cells(
    boxes: Ints, cells: int, clearance_mm: int, cosines: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:  # pragma: no cover
    free = np.ones((cells, cells), np.bool_)
    size_mm = cells * CELL_MM
    nearest = np.int64(clearance_mm) * _UNIT
    for row in range(cells):
        for column in range(cells):
            x = column * CELL_MM + CELL_MM // 2
            y = row * CELL_MM + CELL_MM // 2
            if min(x, y, size_mm - x, size_mm - y) < clearance_mm:
                free[row, column] = False
    for index in range(len(boxes)):
        box = boxes[index]
        # No cell beyond this is near the box, whatever its turn.
        reach = box[2] + box[3] + clearance_mm
        first_row = max((box[1] - reach) // CELL_MM, 0)
        first_column = max((box[0] - reach) // CELL_MM, 0)
        for row in range(first_row, min((box[1] + reach) // CELL_MM + 1, cells)):
            for column in range(first_column, min((box[0] + reach) // CELL_MM + 1, cells)):
                x = column * CELL_MM + CELL_MM // 2
                y = row * CELL_MM + CELL_MM // 2
                if squared_gap(x, y, box, cosines) < nearest * nearest:
                    free[row, column] = False
    return free


@compiled()
def _path_lengths(
    free: npt.NDArray[np.bool_], goal_row: int, goal_column: int, steps: npt.NDArray[np.int64]
) -> Ints:  # pragma: no cover
    cells = free.shape[0]
    lengths = np.full((cells, cells), UNREACHABLE_MM, np.int32)
    lengths[goal_row, goal_column] = 0
    # Dial's algorithm: Dijkstra with a bucket for every length. Each bucket is a linked list.
    num_buckets = _LONGEST + 1
    # Lengths in the queue differ by less than the number of buckets, so no bucket ever holds two of them.
    heads = np.full(num_buckets, -1, np.int64)
    links = np.empty(len(steps) * cells * cells + 1, np.int64)
    entries = np.empty(len(links), np.int64)
    entries[0] = goal_row * cells + goal_column
    links[0] = -1
    heads[0] = 0
    num_entries = 1
    waiting = 1
    length = 0
    while waiting > 0:
        bucket = length % num_buckets
        while heads[bucket] >= 0:
            entry = heads[bucket]
            heads[bucket] = links[entry]
            waiting -= 1
            row = entries[entry] // cells
            column = entries[entry] % cells
            # An entry that a shorter path has overtaken.
            if lengths[row, column] != length:
                continue
            for step in range(len(steps)):
                to_column = column + steps[step, 0]
                to_row = row + steps[step, 1]
                if not (0 <= to_row < cells and 0 <= to_column < cells):
                    continue
                cost = steps[step, 2]
                if free[to_row, to_column]:
                    # Paths run through free cells; the others only lead out to them.
                    if not free[row, column] or not _is_open(free, row, column, to_row, to_column):
                        continue
                else:
                    cost *= _DETOUR
                if length + cost < lengths[to_row, to_column]:
                    lengths[to_row, to_column] = length + cost
                    entries[num_entries] = to_row * cells + to_column
                    links[num_entries] = heads[(length + cost) % num_buckets]
                    heads[(length + cost) % num_buckets] = num_entries
                    num_entries += 1
                    waiting += 1
        length += 1
    return lengths


@compiled()
def _is_open(
    free: npt.NDArray[np.bool_], row: int, column: int, to_row: int, to_column: int
) -> bool:  # pragma: no cover
    """Return whether the cells that a move between two free cells passes are free, too."""
    rows = to_row - row
    columns = to_column - column
    if abs(rows) + abs(columns) == 1:
        return True
    if abs(rows) == 1 and abs(columns) == 1:
        return free[row, to_column] and free[to_row, column]
    # A knight's move passes the two cells in its middle.
    if abs(rows) == 2:
        middle = row + rows // 2
        return free[middle, column] and free[middle, to_column]
    middle = column + columns // 2
    return free[row, middle] and free[to_row, middle]


def free_cells(boxes: Ints, *, size_mm: int, clearance_mm: int) -> npt.NDArray[np.bool_]:
    """Return the cells at least `clearance_mm` from boxes and walls. Shape: (rows, columns), y and x."""
    return _free_cells(boxes, size_mm // CELL_MM, clearance_mm, _COSINES)


def path_lengths(free: npt.NDArray[np.bool_], goal: tuple[int, int]) -> Ints:
    """Return the length of the shortest path through free cells to `goal` (row, column), from every cell.

    Cells that are not free have the length of a path that leaves them first. Shape: (rows, columns) [mm].
    """
    return _path_lengths(free, goal[0], goal[1], _STEPS)


def centre_mm(cell: int) -> int:
    """Return a coordinate of a cell's centre."""
    return cell * CELL_MM + CELL_MM // 2
