"""The senses of all cars of the traffic task in one pass, see `factory/envs/tasks/traffic/senses.py`.

    sense_scenes   all but the curves
    bend_curves    puts the results of exp, tanh and sqrt into the observations

Scenes without a wanted row are skipped, and so are pairs out of reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from factory.kernels.compiling import compiled, share
from factory.kernels.traffic_cars import (
    NUM_PAIR,
    ONE,
    ZERO,
    Room,
    measure,
    meet,
    neighbour,
    predict,
    reward_facts,
    see_another,
    see_oneself,
)


@compiled(contract=False, inline="always")
def _first_pair(part, threads, seen, num_neighbours):
    """Return the place of a thread's first pair in `Sensed.curves`."""
    scenes, num_cars, _ = seen.shape
    return scenes * part // threads * num_cars * num_neighbours


@compiled(contract=False)
def _sense_scenes(cars, roads, constants, horizons, levels, previews, wanted, sensed, threads, part):
    """Run `_sense` for the scenes of one thread."""
    scenes, num_cars = cars.x.shape
    num_own = 10 + 2 * len(previews)
    num_neighbours = (sensed.seen.shape[-1] - num_own) // NUM_PAIR
    is_sorted = num_neighbours < num_cars - 1
    shape = (len(horizons), num_cars)
    room = Room(
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(num_cars, np.int64),
        np.empty((num_cars, num_cars), np.float32),
        np.empty((num_cars, num_cars), np.bool_),
        np.empty(num_cars, np.float32),
    )
    first = _first_pair(part, threads, sensed.seen, num_neighbours)
    at = first
    for scene in range(scenes * part // threads, scenes * (part + 1) // threads):
        if not wanted[scene].any():
            continue
        predict(cars, roads, constants, horizons, scene, room)
        meet(cars, constants, levels, scene, room)
        for i in range(num_cars):
            if not wanted[scene, i]:
                continue
            reward_facts(room, scene, i, sensed)
            row = sensed.seen[scene, i]
            if not cars.is_driving[scene, i]:
                row[:] = ZERO
                sensed.along_route[scene, i] = ONE
                continue
            see_oneself(cars, roads, constants, previews, scene, i, room, row)
            sensed.along_route[scene, i] = row[6]
            measure(cars, constants, scene, i, room)
            for k in range(num_neighbours):
                begin = num_own + k * NUM_PAIR
                pair = row[begin : begin + NUM_PAIR]
                j = neighbour(room, i, k, is_sorted)
                if j < 0:
                    pair[:] = ZERO
                    continue
                see_another(cars, roads, constants, scene, i, j, room, pair, sensed.curves[:, at])
                sensed.pairs[at] = (scene * num_cars + i) * len(row) + begin
                at += 1
    sensed.num_pairs[part] = at - first


@compiled(contract=False)
def _bend_pairs(constants, sensed, num_neighbours, threads, part):
    """Run `_bend` for the pairs of one thread."""
    first = _first_pair(part, threads, sensed.seen, num_neighbours)
    seen = sensed.seen.reshape(-1)
    for at in range(first, first + sensed.num_pairs[part]):
        begin = sensed.pairs[at]
        pair = seen[begin : begin + NUM_PAIR]
        pair[6] = pair[6] / sensed.curves[4, at] / constants.speed_limit
        for c in range(4):
            pair[9 + c] = sensed.curves[c, at]


@compiled(contract=False, parallel=True)
def _sense(cars, roads, constants, horizons, levels, previews, wanted, sensed, threads):
    """Fill in what the wanted rows sense."""
    for part in prange(threads):
        _sense_scenes(
            cars, roads, constants, horizons, levels, previews, wanted, sensed, threads, np.int64(part)
        )


@compiled(contract=False, parallel=True)
def _bend(constants, sensed, num_neighbours, threads):
    """Put the results of the curves into the observations."""
    for part in prange(threads):
        _bend_pairs(constants, sensed, num_neighbours, threads, np.int64(part))


def sense_scenes(*args: Any, threads: int) -> None:
    """Fill in the arguments of the curves and everything else; arguments of `_sense`."""
    share((_sense, _sense_scenes), threads, *args)


def bend_curves(*args: Any, threads: int) -> None:
    """Put the results of the curves into the observations; arguments of `_bend`."""
    share((_bend, _bend_pairs), threads, *args)
