"""Episodes of `amr_dock`: halls with a dock in the middle of the west wall, and starts far from it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from factory.envs.tasks.amr import grid
from factory.envs.tasks.amr.course import Course
from factory.envs.tasks.amr.halls import Draws
from factory.envs.tasks.amr.table import EpisodeSet, draw_table

_SIZE_MM = 6100
_COLUMN = 3
_ROW = 30
"""Cell of the grid whose centre is the dock; its row is the middle one."""
DOCK = (grid.centre_mm(_COLUMN) / 1000.0, grid.centre_mm(_ROW) / 1000.0, math.pi)
"""Pose of a docked robot, which faces the wall: x, y [m], heading [rad]."""


@dataclass(frozen=True, kw_only=True)
class DockSet(EpisodeSet):
    """Recipe of a set of halls with a dock."""

    goals: int = 1
    kinds: tuple[str, ...] = ("bay",)
    size_mm: int = _SIZE_MM
    max_boxes: int = 5
    movers: int = 0

    def goal_cell(self, draws: Draws, cells: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return row and column of the dock."""
        return _ROW, _COLUMN


SETS = {
    "train": DockSet(stream=21, halls=512, starts=8),
    "validation": DockSet(stream=22, halls=128, starts=8),
    "test": DockSet(stream=23, halls=256, starts=4),
}
"""Sets of episodes; all but `train` are fixed lists of 1024."""


@functools.cache
def dock_course(name: str, device: torch.device) -> Course:
    """Return the episodes of a set on a device; all environments of a process share them."""
    return Course(draw_table(SETS[name]), device)
