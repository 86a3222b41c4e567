"""Episodes of `amr-v1`: halls, starts, goals and movers, drawn from counted seeds in integers.

The same table comes out on every machine; `EpisodeTable.sha256` is printed in results, so that figures which
belong to another table cannot pass for comparable. Lengths are millimetres, headings degrees.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.envs.tasks.amr import grid
from factory.envs.tasks.amr.grid import Ints
from factory.envs.tasks.amr.halls import Draws, draw_boxes

ROBOT_RADIUS_MM = 250
GOAL_RADIUS_MM = 300
CLEARANCE_MM = ROBOT_RADIUS_MM + 50
_MOVER_CLEARANCE_MM = 400
_MOVER_DISTANCE_MM = 1500
"""Smallest distance between a mover and the robot at the start."""
_SHORTEST_MM = 3000
"""Smallest distance between start and goal."""
_STANDARD_KINDS = ("aisles", "rooms", "clutter", "ca")


@dataclass(frozen=True, kw_only=True)
class EpisodeSet:
    """Recipe of a set of episodes."""

    stream: int
    """First number of the seeds; no two sets share halls."""
    halls: int
    """Number of halls; the kinds take turns."""
    goals: int
    """Goals of a hall."""
    starts: int
    """Starts of a goal."""
    kinds: tuple[str, ...] = _STANDARD_KINDS
    size_mm: int = 10_000
    """Edge of the hall."""
    max_boxes: int = 20
    """Most boxes of a hall."""
    movers: int = 4
    """Moving cylinders."""
    mover_mm_per_s: tuple[int, int] = (200, 800)
    """Range of the movers' speeds."""
    least_detour_percent: int = 100
    """Least length of the shortest path, in percent of the straight line."""
    range_noise_m: float = 0.02
    """Standard deviation of a lidar range [m]."""
    dropout: float = 0.0
    """Share of lidar beams that return nothing [-]."""
    drift: float = 0.01
    """Error of the odometry per distance travelled [m/m], and largest error of its heading [rad/m]."""
    slip: float = 0.05
    """Largest deviation of the executed speeds from the commanded ones, drawn for every episode [-]."""

    def goal_cell(self, draws: Draws, cells: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return row and column of a goal, one of the free cells."""
        return draw_cell(draws, cells)


SETS: dict[str, EpisodeSet] = {
    "train": EpisodeSet(stream=1, halls=512, goals=4, starts=4),
    "validation": EpisodeSet(stream=2, halls=128, goals=2, starts=4),
    "test": EpisodeSet(stream=3, halls=256, goals=2, starts=2),
    "dense": EpisodeSet(stream=4, halls=256, goals=2, starts=2, kinds=("dense",)),
    "dynamic": EpisodeSet(stream=5, halls=256, goals=2, starts=2, movers=8, mover_mm_per_s=(200, 1000)),
    "large": EpisodeSet(
        stream=6, halls=256, goals=2, starts=2, kinds=("wide",), size_mm=20_000, max_boxes=48
    ),
    "noisy": EpisodeSet(stream=7, halls=256, goals=2, starts=2, range_noise_m=0.05, dropout=0.02, drift=0.03),
    "maze": EpisodeSet(
        stream=8, halls=256, goals=2, starts=2, kinds=("maze",), movers=0, least_detour_percent=200
    ),
}
"""Splits, and sets shifted away from the training set. All but `train` are fixed lists of 1024 episodes."""


@dataclass(frozen=True, kw_only=True)
class EpisodeTable:
    """Episodes of a set; H halls of at most B boxes, G goals in all, E episodes of M movers."""

    recipe: EpisodeSet
    boxes: Ints
    """Boxes of halls as in `grid`; missing ones are zeros. Shape: (H, B, 5)."""
    num_boxes: Ints
    """Shape: (H,)."""
    kind: Ints
    """Index into `recipe.kinds`. Shape: (H,)."""
    goal: Ints
    """Hall, x, y. Shape: (G, 3)."""
    start: Ints
    """Goal, x, y, heading, length of the shortest path. Shape: (E, 5)."""
    movers: Ints
    """x, y, heading, speed, radius at the start. Shape: (E, M, 5)."""
    lengths: npt.NDArray[np.uint16]
    """Lengths of the shortest paths from all cells to every goal. Shape: (G, rows, columns)."""

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self.start)

    @property
    def sha256(self) -> str:
        """Digest of recipe and numbers, the same on every machine."""
        digest = hashlib.sha256(repr(self.recipe).encode())
        # As little-endian integers, so that the digest is that of the values and not of the machine.
        for part in (self.boxes, self.num_boxes, self.kind, self.goal, self.start, self.movers):
            digest.update(part.astype("<i4").tobytes())
        return digest.hexdigest()

    def kinds(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the episodes in each kind of hall. Shape: (E,)."""
        kind = self.kind[self.goal[self.start[:, 0], 0]]
        return {name: kind == index for index, name in enumerate(self.recipe.kinds)}


@functools.cache
def episode_table(name: str) -> EpisodeTable:
    """Return the episodes of a set in `SETS`; a second call returns the same object."""
    return draw_table(SETS[name])


def draw_table(recipe: EpisodeSet) -> EpisodeTable:
    """Draw the episodes of a recipe."""
    boxes = np.zeros((recipe.halls, recipe.max_boxes, 5), np.int32)
    num_boxes = np.zeros(recipe.halls, np.int32)
    goals: list[tuple[int, int, int]] = []
    lengths: list[npt.NDArray[np.uint16]] = []
    starts: list[tuple[int, ...]] = []
    movers: list[list[tuple[int, ...]]] = []
    for hall in range(recipe.halls):
        draws = Draws(recipe.stream, hall)
        found, episodes = _draw_hall(recipe, hall, draws)
        boxes[hall, : len(found)] = found
        num_boxes[hall] = len(found)
        for goal in episodes:
            for start, around in goal.starts:
                starts.append((len(goals), *start))
                movers.append(around)
            goals.append((hall, *goal.point))
            lengths.append(goal.lengths)
    # Neighbours in the list play in different halls, so that its first part has all kinds, too.
    order = np.arange(len(starts)).reshape(recipe.halls, -1).T.ravel()
    return EpisodeTable(
        recipe=recipe,
        boxes=boxes,
        num_boxes=num_boxes,
        kind=np.arange(recipe.halls, dtype=np.int32) % len(recipe.kinds),
        goal=np.array(goals, np.int32),
        start=np.array(starts, np.int32)[order],
        movers=np.array(movers, np.int32).reshape(len(starts), recipe.movers, 5)[order],
        lengths=np.stack(lengths),
    )


@dataclass(frozen=True)
class _Goal:
    """A goal, and the episodes that lead to it."""

    point: tuple[int, int]
    starts: list[tuple[tuple[int, int, int, int], list[tuple[int, ...]]]]
    """x, y, heading and shortest path of each episode, and its movers."""
    lengths: npt.NDArray[np.uint16]


def _draw_hall(recipe: EpisodeSet, hall: int, draws: Draws) -> tuple[Ints, list[_Goal]]:
    """Return boxes, and goals with their starts; a hall without enough of them is drawn again."""
    kind = recipe.kinds[hall % len(recipe.kinds)]
    # A hall may be cut in two, or too narrow for paths that are long enough.
    while True:
        boxes = draw_boxes(kind, draws, size_mm=recipe.size_mm)
        free = grid.free_cells(boxes, size_mm=recipe.size_mm, clearance_mm=CLEARANCE_MM)
        for_movers = grid.free_cells(boxes, size_mm=recipe.size_mm, clearance_mm=_MOVER_CLEARANCE_MM)
        cells = np.argwhere(free)
        mover_cells = np.argwhere(for_movers)
        episodes = []
        for _ in range(4 * recipe.goals):
            cell = recipe.goal_cell(draws, cells)
            goal = _draw_goal(recipe, draws, cell, grid.path_lengths(free, cell), cells, mover_cells)
            if len(goal.starts) == recipe.starts:
                episodes.append(goal)
            if len(episodes) == recipe.goals:
                return boxes, episodes


def _draw_goal(
    recipe: EpisodeSet,
    draws: Draws,
    goal: tuple[int, int],
    lengths: Ints,
    cells: npt.NDArray[np.int64],
    mover_cells: npt.NDArray[np.int64],
) -> _Goal:
    """Return a goal with starts whose paths are long enough, as many as there should be or fewer."""
    goal_x, goal_y = point_of(goal)
    starts: list[tuple[tuple[int, int, int, int], list[tuple[int, ...]]]] = []
    for _ in range(16 * recipe.starts):
        cell = draw_cell(draws, cells)
        x, y = point_of(cell)
        length = int(lengths[cell])
        # Squares keep the comparison in integers: no machine rounds differently.
        squared = (x - goal_x) ** 2 + (y - goal_y) ** 2
        is_far = squared >= _SHORTEST_MM**2
        is_detour = (100 * length) ** 2 >= recipe.least_detour_percent**2 * squared
        if not is_far or not is_detour or length >= grid.UNREACHABLE_MM:
            continue
        heading = draws.integer(0, 359)
        around = [_draw_mover(recipe, draws, mover_cells, (x, y)) for _ in range(recipe.movers)]
        starts.append(((x, y, heading, length), around))
        if len(starts) == recipe.starts:
            break
    # Where no path leads, no robot comes.
    return _Goal((goal_x, goal_y), starts, np.minimum(lengths, 2**16 - 1).astype(np.uint16))


def _draw_mover(
    recipe: EpisodeSet, draws: Draws, cells: npt.NDArray[np.int64], start: tuple[int, int]
) -> tuple[int, ...]:
    """Return x, y, heading, speed and radius of a mover that is not close to the robot."""
    while True:
        x, y = point_of(draw_cell(draws, cells))
        if (x - start[0]) ** 2 + (y - start[1]) ** 2 >= _MOVER_DISTANCE_MM**2:
            break
    return (x, y, draws.integer(0, 359), draws.integer(*recipe.mover_mm_per_s), draws.integer(200, 350))


def draw_cell(draws: Draws, cells: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return row and column of one of the cells."""
    row, column = cells[draws.integer(0, len(cells) - 1)].tolist()
    return row, column


def point_of(cell: tuple[int, int]) -> tuple[int, int]:
    """Return x and y of a cell's centre."""
    return grid.centre_mm(cell[1]), grid.centre_mm(cell[0])
