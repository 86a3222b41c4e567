"""A table of episodes as tensors: the halls, starts, goals and movers of running episodes.

Sizes: N environments, H halls, B boxes, G goals, E episodes, M movers.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from factory.envs.tasks.amr import grid
from factory.envs.tasks.amr.obstacles import Movers
from factory.envs.tasks.amr.table import EpisodeTable, episode_table
from factory.kernels import path_lengths

_FAR_M = -1000.0
"""Coordinate of boxes that a hall does not have."""


class Start(NamedTuple):
    """Begin of an episode."""

    pose: Tensor
    """x, y, heading. Shape: (N, 3) [m, m, rad]."""
    goal: Tensor
    """Shape: (N, 2) [m]."""
    shortest: Tensor
    """Length of the shortest path. Shape: (N,) [m]."""


@functools.cache
def course_of(name: str, device: torch.device) -> Course:
    """Return the episodes of a set on a device; all environments of a process share them."""
    return Course(episode_table(name), device)


class Course:
    """Episodes of one set on a device."""

    def __init__(self, table: EpisodeTable, device: torch.device) -> None:
        """Copy the numbers of a table to the device."""
        self.table = table
        self.recipe = table.recipe
        self.size_m = table.recipe.size_mm / 1000.0
        self.num_episodes = table.num_episodes

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, device=device)

        start = table.start
        self._goal_of_episode = tensor(start[:, 0]).long()
        self._hall_of_goal = tensor(table.goal[:, 0]).long()
        self._goals = tensor(table.goal[:, 1:] / 1000.0).float()
        self._poses = tensor(np.stack([*start[:, 1:3].T / 1000.0, np.radians(start[:, 3])], -1)).float()
        self._shortest = tensor(start[:, 4] / 1000.0).float()
        self._boxes = tensor(box_numbers(table.boxes, table.num_boxes)).float()
        heading = np.radians(table.movers[..., 2])
        self._movers = Movers(
            tensor(table.movers[..., :2] / 1000.0).float(),
            tensor(np.stack([np.cos(heading), np.sin(heading)], -1)).float(),
            tensor(table.movers[..., 3] / 1000.0).float(),
            tensor(table.movers[..., 4] / 1000.0).float(),
        )
        self._lengths = in_metres(table.lengths, device)

    def start(self, episode: Tensor) -> Start:
        """Return starts. Shape of episode: (N,)."""
        goal = self._goal_of_episode[episode]
        return Start(self._poses[episode], self._goals[goal], self._shortest[episode])

    def boxes(self, episode: Tensor) -> Tensor:
        """Return the boxes of the halls, see `Boxes.of`. Shapes: (N,) -> (N, B, 6)."""
        return self._boxes[self._hall_of_goal[self._goal_of_episode[episode]]]

    def movers(self, episode: Tensor) -> Movers:
        """Return the movers at the start. Shape of episode: (N,)."""
        return Movers(*(part[episode] for part in self._movers))

    def path_length(self, episode: Tensor, points: Tensor, *, compiled: bool = False) -> Tensor:
        """Return the length of the shortest path to the goal, see `interpolated`.

        Shapes: (N,), (N, P, 2) [m] -> (N, P) [m].
        """
        return interpolated(self._lengths, self._goal_of_episode[episode], points, compiled=compiled)


def in_metres(lengths: np.ndarray, device: torch.device) -> Tensor:
    """Return lengths [mm] on a device, to half a centimetre, which is enough for rewards."""
    return torch.as_tensor(lengths.astype(np.int32), device=device).mul(0.001).half()


def interpolated(lengths: Tensor, goal: Tensor, points: Tensor, *, compiled: bool = False) -> Tensor:
    """Return lengths of shortest paths, linear between the centres of cells.

    Args:
        lengths: from all cells to every goal. Shape: (G, rows, columns) [m].
        goal: goal of each environment. Shape: (N,).
        points: places. Shape: (N, P, 2) [m].
        compiled: use the compiled kernel, which needs tensors on a CPU.

    Returns:
        Shape: (N, P) [m].
    """
    cells_per_m = 1000.0 / grid.CELL_MM
    if compiled:
        return path_lengths.interpolated(lengths, goal, points, cells_per_m=cells_per_m)
    goal = goal[:, None]
    last = lengths.shape[-1] - 1
    # In cells, from the centre of the first one; clamped so that a cell to the right and above exists.
    cells = (points * cells_per_m - 0.5).clamp(0.0, last - 1e-3)
    low = cells.floor()
    share = cells - low
    column = low[..., 0].long()
    row = low[..., 1].long()
    total = torch.zeros_like(points[..., 0])
    # Bilinear: each of the four centres around counts by the nearness of the point to it.
    for up in (0, 1):
        for right in (0, 1):
            weight = (1 - up - share[..., 1]).abs() * (1 - right - share[..., 0]).abs()
            total += weight * lengths[goal, row + up, column + right].float()
    return total


def box_numbers(boxes: np.ndarray, num_boxes: np.ndarray) -> np.ndarray:
    """Return centres, halves and axes of boxes, see `Boxes.of`. Shapes: (H, B, 5), (H,) -> (H, B, 6)."""
    exists = np.arange(boxes.shape[1]) < num_boxes[:, None]
    center = np.where(exists[..., None], boxes[..., :2] / 1000.0, _FAR_M)
    turn = boxes[..., 4] * math.radians(grid.TURN_DEG)
    axis = np.stack([np.cos(turn), np.sin(turn)], -1)
    return np.concatenate([center, boxes[..., 2:4] / 1000.0, axis], -1)
