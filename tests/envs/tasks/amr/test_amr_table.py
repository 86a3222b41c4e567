"""Episodes of amr-v1 are the same everywhere, and every one of them can be solved."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from factory.envs.tasks.amr import grid
from factory.envs.tasks.amr.config import SET_NAMES
from factory.envs.tasks.amr.dock_table import SETS as DOCK_SETS
from factory.envs.tasks.amr.halls import KINDS, Draws, draw_boxes
from factory.envs.tasks.amr.table import SETS, EpisodeTable, draw_table, episode_table

TEST_SHA256 = "3de99f56ba855086c71e84635a476a59044134d8e7dbda610fa3489248c3e566"
SAMPLES = {
    "train": "168a13b10c0042cd",
    "validation": "53961c0aa7dd2cb0",
    "dense": "4c6462d924f57447",
    "dynamic": "064699846bdaa9aa",
    "large": "40d420464bab8d4b",
    "noisy": "50d94745c4b64d3d",
    "maze": "ccabaf3b38b959cd",
}
"""First digits of the digests of the first eight halls of the other sets."""


def first_halls(name: str) -> EpisodeTable:
    """Return the table of a set with eight halls."""
    return draw_table(replace(SETS[name], halls=8))


@pytest.fixture(scope="module")
def table() -> EpisodeTable:
    """Return the test episodes."""
    return episode_table("test")


def test_test_episodes_are_frozen(table: EpisodeTable) -> None:
    """The digest in the documentation belongs to the 1024 episodes that are drawn here."""
    assert table.num_episodes == 1024
    assert table.sha256 == TEST_SHA256


@pytest.mark.parametrize(("name", "digest"), SAMPLES.items())
def test_other_sets_are_frozen(name: str, digest: str) -> None:
    """The first halls of every other set have the digest that they had when the set was frozen."""
    drawn = first_halls(name)
    assert drawn.sha256[:16] == digest
    assert (drawn.start[:, 4] < grid.UNREACHABLE_MM).all()


def test_names_of_sets_agree() -> None:
    """The names that the configuration takes are those of the recipes."""
    assert set(SET_NAMES) == set(SETS)
    assert len({recipe.stream for recipe in SETS.values()}) == len(SETS)


def test_bits_of_the_generator_are_those_of_its_specification() -> None:
    """Draws come from the raw output of PCG64, whose stream NumPy never changes."""
    draws = Draws(3, 0)
    values = np.array([draws.integer(0, 999) for _ in range(8)], "<i4")
    assert hashlib.sha256(values.tobytes()).hexdigest()[:8] == "a05ec7a5"


def test_starts_and_goals_are_free_and_far_apart(table: EpisodeTable) -> None:
    """Starts and goals keep their distance from obstacles, from each other and from movers."""
    goal = table.goal[table.start[:, 0]]
    straight = np.hypot(*(goal[:, 1:] - table.start[:, 1:3]).T)
    assert straight.min() >= 3000.0
    # A path on the grid is at most 3 % longer than the true one, and never shorter than the straight line.
    assert (table.start[:, 4] > 0.99 * straight).all()
    for episode in range(0, table.num_episodes, 64):
        hall = goal[episode, 0]
        boxes = table.boxes[hall, : table.num_boxes[hall]]
        free = grid.free_cells(boxes, size_mm=10_000, clearance_mm=300)
        for x, y in (goal[episode, 1:], table.start[episode, 1:3]):
            assert free[y // grid.CELL_MM, x // grid.CELL_MM]
        apart = np.hypot(*(table.movers[episode, :, :2] - table.start[episode, 1:3]).T)
        assert apart.min() >= 1500.0


def test_halls_of_a_maze_have_long_ways() -> None:
    """In the maze, the shortest path is at least twice the straight line."""
    table = first_halls("maze")
    goal = table.goal[table.start[:, 0]]
    straight = np.hypot(*(goal[:, 1:] - table.start[:, 1:3]).T)
    assert (table.start[:, 4] >= 2.0 * straight).all()


def test_first_part_of_a_list_has_every_hall(table: EpisodeTable) -> None:
    """Each quarter of the list has all 256 halls, and so all kinds equally."""
    halls = table.goal[table.start[:, 0], 0]
    assert sorted(halls[:256]) == list(range(256))
    assert {name: int(mask[:256].sum()) for name, mask in table.kinds().items()} == dict.fromkeys(
        ("aisles", "rooms", "clutter", "ca"), 64
    )


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_have_room(kind: str) -> None:
    """Every kind of hall has boxes of positive size, no more than the sets with it allow."""
    recipes = [*SETS.values(), *DOCK_SETS.values()]
    size_mm = min(recipe.size_mm for recipe in recipes if kind in recipe.kinds)
    most = min(recipe.max_boxes for recipe in recipes if kind in recipe.kinds)
    for seed in range(5):
        boxes = draw_boxes(kind, Draws(99, seed), size_mm=size_mm)
        assert 0 < len(boxes) <= most
        assert (boxes[:, 2:4] > 0).all() and (boxes[:, 4] < 12).all()


def test_clearance_of_a_turned_box_is_exact_to_a_cell() -> None:
    """Cells near a box turned by 45 degrees are blocked up to the clearance, and no farther."""
    box = np.array([[5000, 5000, 1000, 500, 3]], np.int32)
    free = grid.free_cells(box, size_mm=10_000, clearance_mm=300)
    center = np.arange(100) * 100.0 + 50.0
    offset = np.stack(np.meshgrid(center, center), -1) - 5000.0
    along = offset @ [np.sqrt(0.5), np.sqrt(0.5)]
    across = offset @ [-np.sqrt(0.5), np.sqrt(0.5)]
    gap = np.hypot(np.maximum(abs(along) - 1000.0, 0.0), np.maximum(abs(across) - 500.0, 0.0))
    inside = np.pad(np.ones((94, 94), bool), 3)
    assert free[(gap > 301.0) & inside].all()
    assert not free[gap < 299.0].any()
    assert not free[:2].any() and not free[:, -2:].any()


def test_path_goes_round_a_wall() -> None:
    """A path past the end of a wall is as long as its straight parts, within 4 %."""
    wall = np.array([[5000, 3500, 100, 3500, 0]], np.int32)
    free = grid.free_cells(wall, size_mm=10_000, clearance_mm=300)
    lengths = grid.path_lengths(free, (20, 80))
    # To a corner 0.3 m above the wall's end, across it, and down again.
    way = np.hypot(2850.0, 5250.0) + 200.0 + np.hypot(2950.0, 5250.0)
    assert lengths[20, 80] == 0
    assert way < lengths[20, 20] < 1.04 * way
    assert lengths[20, 95] == 1500


def test_cell_that_is_not_free_has_a_longer_way() -> None:
    """A robot that is too close to a wall gets a length that falls as it leaves."""
    wall = np.array([[5000, 5000, 100, 4000, 0]], np.int32)
    free = grid.free_cells(wall, size_mm=10_000, clearance_mm=300)
    lengths = grid.path_lengths(free, (50, 80))
    assert not free[50, 52] and free[50, 55]
    assert lengths[50, 52] > lengths[50, 53] > lengths[50, 55] > lengths[50, 60]
