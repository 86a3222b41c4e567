"""Layouts of halls, drawn in integers from counted seeds, so that all machines get the same.

Lengths are millimetres, boxes as in `grid`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from factory.envs.tasks.amr.grid import Ints

Box = tuple[int, int, int, int, int]


class Draws:
    """Integers from a stream that NumPy keeps the same in all its versions: the raw bits of PCG64."""

    def __init__(self, *seed: int) -> None:
        """Begin the stream of a seed."""
        self._bits = np.random.PCG64(list(seed))

    def integer(self, low: int, high: int) -> int:
        """Return an integer between `low` and `high`, both included."""
        # The modulo of 64 random bits is uneven by about 1e-15 at most.
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def chance(self, percent: int) -> bool:
        """Return True with a chance of `percent`."""
        return self.integer(0, 99) < percent


def aisles(draws: Draws, size_mm: int) -> list[Box]:
    """Return three or four rows of shelves, each with a gap, along one side of the hall or the other."""
    rows = draws.integer(3, 4)
    boxes = []
    for row in range(rows):
        middle = size_mm * (row + 1) // (rows + 1) + draws.integer(-150, 150)
        half_depth = draws.integer(200, 350)
        begin = draws.integer(1000, 1600)
        end = size_mm - draws.integer(1000, 1600)
        gap_begin = draws.integer(begin + 1000, end - 2500)
        gap_end = gap_begin + draws.integer(1000, 1500)
        for left, right in ((begin, gap_begin), (gap_end, end)):
            boxes.append(((left + right) // 2, middle, (right - left) // 2, half_depth, 0))
    return _maybe_crosswise(draws, boxes)


def rooms(draws: Draws, size_mm: int) -> list[Box]:
    """Return two crossing walls with doors; in half of the halls one of the four doors is closed."""
    crossing_x = draws.integer(size_mm * 35 // 100, size_mm * 65 // 100)
    crossing_y = draws.integer(size_mm * 35 // 100, size_mm * 65 // 100)
    half = draws.integer(75, 125)
    closed = draws.integer(0, 7)
    boxes = []
    # Four half walls: west, east, south and north of the crossing.
    for index, (fixed, begin, end) in enumerate(
        (
            (crossing_y, 0, crossing_x - half),
            (crossing_y, crossing_x + half, size_mm),
            (crossing_x, 0, crossing_y),
            (crossing_x, crossing_y, size_mm),
        )
    ):
        width = draws.integer(1000, 1600)
        door = draws.integer(begin + 300, end - 300 - width)
        parts = [(begin, door), (door + width, end)]
        if index == closed:
            parts = [(begin, end)]
        for first, last in parts:
            middle = (first + last) // 2
            half_length = (last - first) // 2
            if index < 2:
                boxes.append((middle, fixed, half_length, half, 0))
            else:
                boxes.append((fixed, middle, half, half_length, 0))
    return boxes


def clutter(draws: Draws, size_mm: int, count: int = 12) -> list[Box]:
    """Return boxes of all sizes and turns anywhere."""
    return [
        (
            draws.integer(800, size_mm - 800),
            draws.integer(800, size_mm - 800),
            draws.integer(200, 700),
            draws.integer(150, 500),
            draws.integer(0, 11),
        )
        for _ in range(count)
    ]


def dense(draws: Draws, size_mm: int) -> list[Box]:
    """Return 20 boxes of all sizes and turns."""
    return clutter(draws, size_mm, 20)


def wide(draws: Draws, size_mm: int) -> list[Box]:
    """Return 48 boxes of all sizes and turns."""
    return clutter(draws, size_mm, 48)


def ca(draws: Draws, size_mm: int) -> list[Box]:
    """Return the blocks of a cellular automaton, after the BARN data set (Perille et al. 2020).

    Cells are filled at random by 10 to 20 %; then lone ones are cleared and holes among five others filled.
    """
    cells = 16
    edge = size_mm // cells
    fill = draws.integer(10, 20)
    while True:
        filled = np.array([[draws.chance(fill) for _ in range(cells)] for _ in range(cells)])
        padded = np.pad(filled, 1).astype(int)
        shifted = [padded[r : r + cells, c : c + cells] for r in range(3) for c in range(3)]
        # The nine shifts hold the cell itself, which is no neighbour of its own.
        neighbours = sum(shifted) - filled
        filled = (filled & (neighbours >= 1)) | (neighbours >= 5)
        boxes = [
            (
                (first_c + last_c) * edge // 2,
                (first_r + last_r) * edge // 2,
                (last_c - first_c) * edge // 2,
                (last_r - first_r) * edge // 2,
                0,
            )
            for first_r, last_r, first_c, last_c in _rectangles(filled)
        ]
        # As many boxes as an episode of the standard sets has room for.
        if 0 < len(boxes) <= 20:
            return boxes


def maze(draws: Draws, size_mm: int) -> list[Box]:
    """Return the walls of a maze of five by five cells with exactly one path between any two of them."""
    cells = 5
    edge = size_mm // cells
    half = 75
    # A wall stands between two cells until the search, depth first, passes from one to the other.
    walls = {((r, c), (r, c + 1)) for r in range(cells) for c in range(cells - 1)}
    walls |= {((r, c), (r + 1, c)) for r in range(cells - 1) for c in range(cells)}
    path = [(draws.integer(0, cells - 1), draws.integer(0, cells - 1))]
    # Every cell is entered once, so the passages form a tree, which has one path between any two cells.
    seen = set(path)
    while path:
        row, column = path[-1]
        around = [(row, column + 1), (row + 1, column), (row, column - 1), (row - 1, column)]
        ahead = [cell for cell in around if max(cell) < cells and min(cell) >= 0 and cell not in seen]
        if not ahead:
            path.pop()
            continue
        chosen = ahead[draws.integer(0, len(ahead) - 1)]
        walls.discard((min(path[-1], chosen), max(path[-1], chosen)))
        seen.add(chosen)
        path.append(chosen)

    boxes = []
    for (row, column), (_, other_column) in sorted(walls):
        if other_column > column:
            boxes.append((other_column * edge, row * edge + edge // 2, half, edge // 2 + half, 0))
        else:
            boxes.append((column * edge + edge // 2, (row + 1) * edge, edge // 2 + half, half, 0))
    return boxes


def bay(draws: Draws, size_mm: int) -> list[Box]:
    """Return the two guides beside a dock in the middle of the west wall, and three boxes on the floor."""
    middle = size_mm // 2
    half_gap = draws.integer(310, 370)
    half_length = draws.integer(250, 450)
    half_width = draws.integer(40, 80)
    offset = half_gap + half_width
    boxes = [(half_length, middle + side * offset, half_length, half_width, 0) for side in (-1, 1)]
    boxes += [
        (
            draws.integer(1900, size_mm - 800),
            draws.integer(500, size_mm - 500),
            draws.integer(150, 450),
            draws.integer(100, 350),
            draws.integer(0, 11),
        )
        for _ in range(3)
    ]
    return boxes


KINDS: dict[str, Callable[[Draws, int], list[Box]]] = {
    "aisles": aisles,
    "rooms": rooms,
    "clutter": clutter,
    "ca": ca,
    "dense": dense,
    "wide": wide,
    "maze": maze,
    "bay": bay,
}
"""Kinds of halls: functions of a stream of draws and the hall's edge."""


def draw_boxes(kind: str, draws: Draws, *, size_mm: int) -> Ints:
    """Return the boxes of a hall. Shape: (boxes, 5)."""
    return np.array(KINDS[kind](draws, size_mm), np.int32)


def _maybe_crosswise(draws: Draws, boxes: list[Box]) -> list[Box]:
    """Return the boxes, or in half of the calls with x and y exchanged."""
    if draws.chance(50):
        return [(y, x, half_y, half_x, turn) for x, y, half_x, half_y, turn in boxes]
    return boxes


def _rectangles(filled: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Cover filled cells by rectangles (first row, last row, first column, last column), ends excluded."""
    left = filled.copy()
    found = []
    for row, column in np.argwhere(filled).tolist():
        if not left[row, column]:
            continue
        last_column = column
        while last_column < left.shape[1] and left[row, last_column]:
            last_column += 1
        last_row = row
        while last_row < left.shape[0] and left[last_row, column:last_column].all():
            last_row += 1
        left[row:last_row, column:last_column] = False
        found.append((row, last_row, column, last_column))
    return found
