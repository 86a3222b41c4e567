"""The senses of all cars: their observations, and the facts that rewards depend on. S scenes of C cars.

A CPU runs a compiled kernel (`factory/kernels/traffic_senses.py`), all other devices the torch code, which is
the definition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from factory.envs.tasks.traffic.config import NEIGHBOUR_FEATURES, OWN_FEATURES
from factory.envs.tasks.traffic.lane_graph import SPACING_M
from factory.envs.tasks.traffic.map_table import SPEED_LIMIT, MapTable
from factory.envs.tasks.traffic.perception import (
    HORIZONS_S,
    LEVELS,
    PREVIEW_M,
    REACH_M,
    Cars,
    Perception,
    observe,
)
from factory.envs.tasks.traffic.vehicles import (
    MOST_BRAKING,
    MOST_LENGTH_M,
    MOST_STEERING,
    WIDTH_M,
    struck_from_behind,
)
from factory.kernels.traffic_cars import CarArrays, Constants, Roads, Sensed
from factory.kernels.traffic_senses import bend_curves, sense_scenes

_ROWS_A_THREAD = 2000
"""Cars for which a further thread saves more than waking it costs."""


class Senses(NamedTuple):
    """Observations and facts that rewards depend on. Shapes: (S, C)."""

    seen: Tensor
    """Observations. Shape: (S, C, features)."""
    is_touching: Tensor
    """Cars in a contact, bool."""
    is_to_blame: Tensor
    """Cars in a contact other than that of a car that was struck from behind, bool."""
    imminence: Tensor
    """Imminence of the next contact at constant speeds, 0 to 1."""
    along_route: Tensor
    """Cosine of the angle between car and route, of cars that drive."""


def senses(table: MapTable, cars: Cars, view: Perception, *, neighbours: int) -> Senses:
    """Return what cars sense, by torch.

    Args:
        table: maps.
        cars: cars of all scenes.
        view: perception of the same cars.
        neighbours: number of neighbours that a car observes.
    """
    pose = cars.motion.pose
    return Senses(
        seen=observe(table, cars, view, neighbours=neighbours),
        is_touching=view.touches.any(-1),
        # A car that is struck from behind must not pay for its follower.
        is_to_blame=(view.touches & ~struck_from_behind(view.seen)).any(-1),
        imminence=view.imminence.amax(-1),
        along_route=pose.cos * view.here[..., 2] + pose.sin * view.here[..., 3],
    )


def compiled_senses(table: MapTable, cars: Cars, *, neighbours: int) -> Senses:
    """Return the same as `senses`, by the compiled kernel, for tensors on a CPU."""
    shape = cars.route.shape
    result = Senses(
        seen=torch.empty(*shape, OWN_FEATURES + neighbours * NEIGHBOUR_FEATURES),
        is_touching=torch.empty(shape, dtype=torch.bool),
        is_to_blame=torch.empty(shape, dtype=torch.bool),
        imminence=torch.empty(shape),
        along_route=torch.empty(shape),
    )
    _fill(table, cars, torch.ones(shape, dtype=torch.bool), result, neighbours=neighbours)
    return result


def observe_again(table: MapTable, cars: Cars, rows: Tensor, seen: Tensor, *, neighbours: int) -> None:
    """Replace the observations of some cars by those of now, for tensors on a CPU.

    Shapes: `rows` (S, C) bool, `seen` (S, C, features).
    """
    shape = cars.route.shape
    flags = torch.empty(shape, dtype=torch.bool)
    numbers = torch.empty(shape)
    _fill(table, cars, rows, Senses(seen, flags, flags, numbers, numbers), neighbours=neighbours)


def _fill(table: MapTable, cars: Cars, rows: Tensor, result: Senses, *, neighbours: int) -> None:
    """Write what some cars sense now into `result`. Shape of `rows`: (S, C) bool."""
    threads = min(torch.get_num_threads(), 1 + rows.numel() // _ROWS_A_THREAD)
    most_pairs = rows.numel() * neighbours
    curves = torch.empty(5, most_pairs)
    seen, *facts = (value.numpy() for value in result)
    sensed = Sensed(
        seen,
        curves.numpy(),
        np.empty(most_pairs, np.int64),
        np.zeros(threads, np.int64),
        *facts,
    )
    sense_scenes(
        _car_arrays(cars),
        _roads(table),
        _CONSTANTS,
        np.array(HORIZONS_S, np.float32),
        np.array(LEVELS, np.float32),
        np.array(PREVIEW_M, np.float32),
        rows.numpy(),
        sensed,
        threads=threads,
    )
    for part, count in enumerate(sensed.num_pairs.tolist()):
        first = len(rows) * part // threads * rows.shape[1] * neighbours
        own = curves[:, first : first + count]
        own[:2].exp_()
        own[2:4].tanh_()
        own[4].sqrt_()
    bend_curves(_CONSTANTS, sensed, neighbours, threads=threads)


def _car_arrays(cars: Cars) -> Any:
    """Return the state of cars as the kernel takes it."""
    motion = cars.motion
    pose = motion.pose
    values = (
        *pose,
        motion.speed,
        motion.steering,
        cars.acceleration,
        cars.along_m,
        cars.lateral_m,
        cars.length_m,
        cars.standing_s,
        cars.route,
        cars.is_driving,
    )
    return CarArrays(*(value.numpy() for value in values))


def _roads(table: MapTable) -> Any:
    """Return the columns of the table that the kernel reads."""
    names = Roads._fields
    return Roads(*(getattr(table, name).numpy() for name in names))


_CONSTANTS = Constants(
    spacing_m=np.float32(SPACING_M),
    half_width_m=np.float32(0.5 * WIDTH_M),
    reach_m=np.float32(REACH_M),
    speed_limit=np.float32(SPEED_LIMIT),
    most_steering=np.float32(MOST_STEERING),
    most_braking=np.float32(MOST_BRAKING),
    most_length_m=np.float32(MOST_LENGTH_M),
)
