"""Halls of a fleet: shelves, stations, and shortest paths between them, drawn in integers as in `table`.

Sizes: H halls, B boxes, S stations.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from factory.envs.tasks.amr import grid
from factory.envs.tasks.amr.course import box_numbers, in_metres, interpolated
from factory.envs.tasks.amr.grid import Ints
from factory.envs.tasks.amr.halls import Draws, draw_boxes
from factory.envs.tasks.amr.table import CLEARANCE_MM, draw_cell, point_of

SIZE_M = 10.0
NUM_STATIONS = 24
"""Places of a hall where robots start and go."""
_STREAMS = {"train": 31, "test": 32}
_MOST_BOXES = 8
_SPACING_MM = 1000
"""Smallest distance between two stations."""
_TRIES = 1000
"""Cells that are drawn for the stations of a hall before it is drawn again."""


class FleetMaps:
    """Halls of one set on a device."""

    def __init__(self, name: str, count: int, device: torch.device) -> None:
        """Draw the first `count` halls of a set."""
        halls = [_draw_hall(Draws(_STREAMS[name], index)) for index in range(count)]
        boxes = np.zeros((count, _MOST_BOXES, 5), np.int32)
        for index, (found, _, _) in enumerate(halls):
            boxes[index, : len(found)] = found
        num_boxes = np.array([len(found) for found, _, _ in halls])
        stations = np.array([places for _, places, _ in halls], np.int32)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, device=device).float()

        self.boxes = tensor(box_numbers(boxes, num_boxes))
        """See `Boxes.of`. Shape: (H, B, 6)."""
        self.stations = tensor(stations / 1000.0)
        """Shape: (H, S, 2) [m]."""
        # Of every hall, the lengths in the cells of its stations: goal first, then start.
        column, row = np.moveaxis(stations // grid.CELL_MM, -1, 0)
        hall = np.arange(count)[:, None, None]
        goal = np.arange(NUM_STATIONS)[:, None]
        lengths = np.stack([lengths for _, _, lengths in halls])
        self.between = tensor(lengths[hall, goal, row[:, None], column[:, None]] / 1000.0).transpose(1, 2)
        """Lengths of the shortest paths from the second index to the third. Shape: (H, S, S) [m]."""
        self._lengths = in_metres(lengths.reshape(-1, *lengths.shape[2:]), device)

    def path_length(self, hall: Tensor, station: Tensor, points: Tensor, *, compiled: bool = False) -> Tensor:
        """Return lengths of paths to a station, see `interpolated`.

        Shapes: (N,), (N,), (N, P, 2) [m] -> (N, P) [m].
        """
        return interpolated(self._lengths, hall * NUM_STATIONS + station, points, compiled=compiled)


@functools.cache
def fleet_maps(name: str, count: int, device: torch.device) -> FleetMaps:
    """Return halls on a device; all environments of a process share them."""
    return FleetMaps(name, count, device)


def _draw_hall(draws: Draws) -> tuple[Ints, list[tuple[int, int]], np.ndarray]:
    """Return boxes, stations (x, y) [mm], and lengths of paths from all cells to each station [mm]."""
    size_mm = round(1000.0 * SIZE_M)
    while True:
        boxes = draw_boxes("aisles", draws, size_mm=size_mm)
        free = grid.free_cells(boxes, size_mm=size_mm, clearance_mm=CLEARANCE_MM)
        cells = np.argwhere(free)
        found: list[tuple[int, int]] = []
        for _ in range(_TRIES):
            cell = draw_cell(draws, cells)
            if all(_is_apart(cell, other) for other in found):
                found.append(cell)
            if len(found) == NUM_STATIONS:
                break
        else:
            continue
        lengths = np.stack([grid.path_lengths(free, cell) for cell in found])
        rows, columns = np.array(found).T
        if lengths[:, rows, columns].max() < grid.UNREACHABLE_MM:
            return boxes, [point_of(cell) for cell in found], np.minimum(lengths, 2**16 - 1)


def _is_apart(cell: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return True if two stations are far enough from each other."""
    rows = cell[0] - other[0]
    columns = cell[1] - other[1]
    return (rows * rows + columns * columns) * grid.CELL_MM**2 >= _SPACING_MM**2
