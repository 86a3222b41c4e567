"""All maps of a split as tensors: points of routes, and the zones in which two routes come close."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from factory.envs.tasks.traffic.junctions import RoadMap, road_map
from factory.envs.tasks.traffic.lane_graph import SPACING_M, Points, Route

SPEED_LIMIT = 10.0
"""Highest speed that the road allows [m/s]."""
_COMFORT_LATERAL = 3.0
"""Lateral acceleration at the recommended speed of a bend [m/s^2]."""
_COMFORT_BRAKING = 2.0
"""Deceleration towards a bend [m/s^2]."""
_NEAR_M = 2.6
"""Distance of two centre lines at which cars on them touch [m]."""
PLACE_M = 20.0
"""Distance of the places at which cars stand when a scene begins [m]."""
NUM_ZONES = 2
"""Zones that are kept of a pair of routes."""


class Zones(NamedTuple):
    """Stretches of two routes that come close to each other: `NUM_ZONES` a pair, in driving direction.

    A zone that does not exist ends before both routes begin. Shapes: (..., 2) [m].
    """

    own_in: Tensor
    own_out: Tensor
    other_in: Tensor
    other_out: Tensor


class MapTable(NamedTuple):
    """Maps, routes and their points as tensors on the device.

    G routes of all maps, each with an index of its own; P points of all routes, E entries and S places of
    all maps.
    """

    points: Tensor
    """x, y, cosine and sine of the direction, and recommended speed [m, m, -, -, m/s]. Shape: (P, 5)."""
    first_point: Tensor
    """Index of every route's first point. Shape: (G,)."""
    last_point: Tensor
    """Shape: (G,)."""
    length_m: Tensor
    """Length of every route to its goal [m]. Shape: (G,)."""
    free_flow_s: Tensor
    """Time from the entry to the goal at the recommended speed [s]. Shape: (G,)."""
    entry: Tensor
    """Entry that a route begins at, among all. Shape: (G,)."""
    rank: Tensor
    """Index of a route within its map. Shape: (G,)."""
    first_pair: Tensor
    """Row of `zones` for a route and the first route of its map. Shape: (G,)."""
    zones: Tensor
    """Zones of all pairs of routes of a map, the columns of `Zones`. Shape: (pairs, 2 * 4) [m]."""
    first_entry: Tensor
    """Index of every map's first entry. Shape: (maps,)."""
    num_entries: Tensor
    """Shape: (maps,)."""
    first_route: Tensor
    """First route of every entry. Shape: (E,)."""
    num_routes: Tensor
    """Number of routes of every entry. Shape: (E,)."""
    first_place: Tensor
    """First of every map's places, at which cars are when a scene begins. Shape: (maps,)."""
    num_places: Tensor
    """Shape: (maps,)."""
    place_entry: Tensor
    """Entry of every place. Shape: (S,)."""
    place_m: Tensor
    """Distance of every place from its entry [m]. Shape: (S,)."""

    def at(self, route: Tensor, along_m: Tensor) -> Tensor:
        """Return the points of routes at distances from their entries. Shapes: (...), (...) -> (..., 5)."""
        step = (snapped(along_m) / SPACING_M).long()
        # Beyond the end of a route its last point counts; all routes lie in one tensor.
        index = torch.minimum(self.first_point[route] + step, self.last_point[route])
        return self.points.index_select(0, index.flatten()).view(*index.shape, 5)

    def zones_of(self, own: Tensor, other: Tensor) -> Zones:
        """Return the zones of pairs of routes of the same map. Shapes: (...,), (...,) -> (..., 2)."""
        row = self.first_pair[own] + self.rank[other]
        found = self.zones.index_select(0, row.flatten()).view(*row.shape, 4, NUM_ZONES)
        return Zones(*found.unbind(-2))


_FLOATS = ("length_m", "free_flow_s", "place_m")
"""Columns of `MapTable` that are no indices."""


@functools.cache
def maps_of(split: str, count: int, device: torch.device) -> tuple[tuple[str, ...], MapTable, int]:
    """Return kinds and table of the first maps of a split, and the most places of a map.

    Environments share them.
    """
    maps = [road_map(split, index) for index in range(count)]
    # Counted on the host: a device would have to be waited for.
    table = map_table(maps, torch.device("cpu"))
    on_device = MapTable(*(column.to(device) for column in table))
    return tuple(found.kind for found in maps), on_device, int(table.num_places.max())


def map_table(maps: Sequence[RoadMap], device: torch.device) -> MapTable:
    """Return the table of maps."""
    columns: dict[str, list[Any]] = {name: [] for name in MapTable._fields}
    for junction in maps:
        _add_map(columns, junction)
    tensors = {}
    for name, values in columns.items():
        dtype = torch.int64
        if name in (*_FLOATS, "points", "zones"):
            dtype = torch.float32
        if name in ("points", "zones"):
            joined = np.concatenate(values)
        else:
            joined = np.asarray(values)
        tensors[name] = torch.as_tensor(joined, dtype=dtype, device=device)
    return MapTable(**tensors)


def _add_map(columns: dict[str, list[Any]], junction: RoadMap) -> None:
    """Append a map to the columns of a table."""
    routes = junction.routes
    first_route = len(columns["entry"])
    first_entry = len(columns["first_route"])
    entries = list(dict.fromkeys(route.entry for route in routes))
    columns["first_entry"].append(first_entry)
    columns["num_entries"].append(len(entries))
    for entry in entries:
        own = [index for index, route in enumerate(routes) if route.entry == entry]
        columns["first_route"].append(first_route + own[0])
        columns["num_routes"].append(len(own))

    places = [
        (entry, place_m) for entry in range(len(entries)) for place_m in _places(routes, entries[entry])
    ]
    columns["first_place"].append(len(columns["place_m"]))
    columns["num_places"].append(len(places))
    columns["place_entry"] += [first_entry + entry for entry, _ in places]
    columns["place_m"] += [place_m for _, place_m in places]
    first_pair = sum(map(len, columns["zones"]))
    for rank, route in enumerate(routes):
        points = _described(route)
        # Up to the goal, without the tail behind it.
        speed = points[: round(route.length_m / SPACING_M), 4]
        first_point = sum(map(len, columns["points"][-1:])) + (columns["first_point"] or [0])[-1]
        columns["first_point"].append(first_point)
        columns["last_point"].append(first_point + len(points) - 1)
        columns["points"].append(points)
        columns["length_m"].append(route.length_m)
        columns["free_flow_s"].append(float((SPACING_M / speed).sum()))
        columns["entry"].append(first_entry + entries.index(route.entry))
        columns["rank"].append(rank)
        columns["first_pair"].append(first_pair + rank * len(routes))
    columns["zones"].append(_close_stretches(routes))


def _places(routes: Sequence[Route], entry: int) -> Points:
    """Return distances from an entry, `PLACE_M` apart, that end a car's length before its lane does [m]."""
    [entry_m] = {route.entry_m for route in routes if route.entry == entry}
    return np.arange(0.0, entry_m - 5.0, PLACE_M)


def snapped(along_m: Tensor) -> Tensor:
    """Return the distances of the nearest points of a route. Shape: (...) [m]."""
    return (along_m / SPACING_M).round().clamp(min=0.0) * SPACING_M


def _described(route: Route) -> Points:
    """Return the columns of `MapTable.points` for a route. Shape: (n, 5)."""
    step = np.gradient(route.points, axis=0)
    heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    bend = np.abs(np.gradient(heading, SPACING_M))
    # v^2 |curvature| <= comfortable lateral acceleration
    speed = np.minimum(SPEED_LIMIT, np.sqrt(_COMFORT_LATERAL / np.maximum(bend, 1e-6)))
    # v(s)^2 <= v(s + ds)^2 + 2 b ds: slow down in time.
    for index in range(len(speed) - 2, -1, -1):
        reachable = np.sqrt(speed[index + 1] ** 2 + 2.0 * _COMFORT_BRAKING * SPACING_M)
        speed[index] = min(speed[index], reachable)
    return np.column_stack([route.points, np.cos(heading), np.sin(heading), speed])


def _close_stretches(routes: Sequence[Route]) -> Points:
    """Return the zones of all pairs of a map's routes, see `MapTable.zones`. Shape: (R^2, 4 NUM_ZONES)."""
    # Every second point is near enough. Rows of shorter routes end with points that are near to nothing.
    stride = 2
    spacing = stride * SPACING_M
    within = [route.points[: round(route.length_m / SPACING_M) : stride] for route in routes]
    count = len(routes)
    longest = max(map(len, within))
    points = torch.full((count, longest, 2), torch.nan)
    for index, own in enumerate(within):
        points[index, : len(own)] = torch.as_tensor(own)
    flat = points.view(-1, 2)
    square = flat.square().sum(-1)
    # |p - q|^2 = p^2 + q^2 - 2 p q; NaN compares as false.
    distance = square[:, None] + square - 2.0 * flat @ flat.T
    is_close = (distance < _NEAR_M**2).view(count, longest, count, longest).transpose(1, 2).byte().numpy()

    # For every point of the own route: the first and the last point of the other one that is close.
    touches = np.asarray(is_close.any(-1))
    first = is_close.argmax(-1)
    last = longest - 1 - is_close[..., ::-1].argmax(-1)

    # A zone ends where no point is close, or where the close ones are elsewhere on the other route.
    jumps = np.abs(np.diff(first, axis=-1, prepend=first[..., :1])) > 8
    before = np.concatenate([np.zeros_like(touches[..., :1]), touches[..., :-1]], -1)
    begins = touches & (~before | jumps)
    number = np.cumsum(begins, -1)
    zones = np.full((count, count, 4, NUM_ZONES), -1e3)
    for zone in range(NUM_ZONES):
        is_in = touches & (number == zone + 1)
        ends = [
            is_in.argmax(-1),
            longest - 1 - is_in[..., ::-1].argmax(-1),
            np.where(is_in, first, longest).min(-1),
            np.where(is_in, last, 0).max(-1),
        ]
        exists = is_in.any(-1)
        for column, end in enumerate(ends):
            zones[exists, column, zone] = spacing * end[exists]
    return zones.reshape(count * count, 4 * NUM_ZONES)
