"""Maps: smooth routes, zones where routes meet, and splits that share nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from factory.envs.tasks.traffic.junctions import HELD_OUT_KINDS, KINDS, LEAST_RADIUS_M, road_map
from factory.envs.tasks.traffic.lane_graph import SPACING_M, tightest_radius_m
from factory.envs.tasks.traffic.map_table import map_table

MAPS = [
    *(road_map("train", index) for index in range(6)),
    *(road_map("topology", index) for index in range(2)),
]


def test_kinds_take_turns_and_splits_differ() -> None:
    """The first maps are one of each kind; no kind of `topology` is among those of training."""
    assert [found.kind for found in MAPS] == [*KINDS, *HELD_OUT_KINDS]
    train, test = (road_map(split, 0).routes[0].points for split in ("train", "test"))
    assert not np.allclose(train[:50], test[:50])
    again = road_map("train", 0).routes[0].points
    assert np.array_equal(train, again)


@pytest.mark.parametrize("junction", MAPS, ids=lambda found: found.kind)
def test_routes_can_be_driven(junction) -> None:  # type: ignore[no-untyped-def]
    """Points are evenly spaced, bends wide enough, and every map has places for eight cars."""
    for route in junction.routes:
        steps = np.linalg.norm(np.diff(route.points, axis=0), axis=1)
        assert np.allclose(steps, SPACING_M, atol=0.02)
        assert tightest_radius_m(route.points) >= LEAST_RADIUS_M
    table = map_table([junction], torch.device("cpu"))
    assert int(table.num_places[0]) >= 8
    assert bool((table.free_flow_s < 40.0).all())


def test_zones_are_where_routes_are_close() -> None:
    """In a zone the other route is close, before it farther away; from the other side it is the same pair."""
    crossing = MAPS[0]
    table = map_table([crossing], torch.device("cpu"))
    count = len(crossing.routes)
    own = torch.arange(count).repeat_interleave(count)
    other = torch.arange(count).repeat(count)
    zones = table.zones_of(own, other)
    mirrored = table.zones_of(other, own)
    assert torch.equal(zones.own_in[:, 0] > -1.0, mirrored.own_in[:, 0] > -1.0)
    num_crossings = 0
    for pair in range(len(own)):
        begin, end = float(zones.own_in[pair, 0]), float(zones.own_out[pair, 0])
        if begin < 0.0 or (begin > 0.0 and end - begin > 30.0):
            continue
        first, second = crossing.routes[own[pair]], crossing.routes[other[pair]]
        at = np.arange(0.0, first.length_m - 1.0, 1.0)
        points = first.points[(at / SPACING_M).astype(int)]
        goal = round(second.length_m / SPACING_M)
        distance = np.linalg.norm(points[:, None] - second.points[None, :goal], axis=-1).min(1)
        inside = (at >= begin) & (at <= end)
        assert distance[inside].max() < 3.2
        assert distance[at < begin - 1.0].min(initial=9.0) > 2.5
        num_crossings += begin > 0.0
    assert num_crossings > 10
