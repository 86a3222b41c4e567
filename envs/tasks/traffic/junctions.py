"""Generator of junctions: every seed is one map. Traffic keeps to the right; roundabouts turn left."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from factory.envs.tasks.traffic.lane_graph import LaneGraph, Points, Route, curve, tightest_radius_m

LEAST_RADIUS_M = 6.5
"""Smallest radius of a bend [m]; the longest car still turns within 5.3 m."""
EXIT_M = 30.0
"""Length of the roads on which cars leave a junction [m]."""
SPLITS = {"train": 1, "validation": 2, "test": 3, "topology": 4}
"""First number of the seeds of every split."""


@dataclass(frozen=True, kw_only=True)
class RoadMap:
    """A junction and the routes through it."""

    kind: str
    routes: tuple[Route, ...]


def road_map(split: str, index: int) -> RoadMap:
    """Return the map of a split with this index; the kinds take turns."""
    kinds = KINDS
    if split == "topology":
        kinds = HELD_OUT_KINDS
    kind = list(kinds)[index % len(kinds)]
    rng = np.random.default_rng([SPLITS[split], index])
    # Angles and radii that would need too tight a bend are drawn again.
    while True:
        graph = kinds[kind](rng)
        routes = graph.routes()
        if min(tightest_radius_m(route.points) for route in routes) >= LEAST_RADIUS_M:
            return RoadMap(kind=kind, routes=tuple(routes))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The lanes of a road that leads to a junction, from the middle of the road outwards."""

    incoming: list[int]
    outgoing: list[int]


def _arm(
    graph: LaneGraph,
    arm: int,
    angle: float,
    *,
    centre: Points,
    near_m: float,
    far_m: float,
    width_m: float,
    lanes: int = 1,
) -> Arm:
    """Add a straight road between two distances from a junction's centre.

    Args:
        graph: takes the lanes.
        arm: index of the arm.
        angle: direction of the road, seen from the centre [rad].
        centre: centre of the junction. Shape: (2,) [m].
        near_m: distance of its end at the junction from the centre [m].
        far_m: distance of its far end, where cars come in [m].
        width_m: width of a lane [m].
        lanes: lanes in each direction.
    """
    outwards = np.array([math.cos(angle), math.sin(angle)])
    # Left of the outward direction is right of those who come in.
    left = np.array([-outwards[1], outwards[0]])
    near = centre + near_m * outwards
    far = centre + far_m * outwards
    goal = near + EXIT_M * outwards
    incoming = []
    outgoing = []
    for lane in range(lanes):
        offset = (lane + 0.5) * width_m * left
        incoming.append(graph.add(np.stack([far + offset, near + offset]), arm=arm))
        outgoing.append(graph.add(np.stack([near - offset, goal - offset]), arm=arm))
    return Arm(incoming=incoming, outgoing=outgoing)


def _spread(rng: np.random.Generator, angles: Points, *, jitter: float = 0.2) -> list[float]:
    """Return angles with a jitter, all turned by the same random angle [rad]."""
    turn = rng.uniform(0.0, math.tau)
    return [float(angle + turn + rng.uniform(-jitter, jitter)) for angle in angles]


def _crossing_of(rng: np.random.Generator, angles: Points, *, near_m: float) -> LaneGraph:
    """Return a junction of single-lane roads in which every arm leads to every other."""
    graph = LaneGraph()
    width_m = rng.uniform(3.3, 3.7)
    far_m = near_m + rng.uniform(48.0, 60.0)
    arms = [
        _arm(graph, k, angle, centre=np.zeros(2), near_m=near_m, far_m=far_m, width_m=width_m)
        for k, angle in enumerate(_spread(rng, angles))
    ]
    _connect_all(graph, arms)
    return graph


def _connect_all(graph: LaneGraph, arms: Sequence[Arm]) -> None:
    """Let the only incoming lane of every arm lead to all other arms."""
    for start in arms:
        for goal in arms:
            if goal is not start:
                graph.connect(start.incoming[0], goal.outgoing[0])


def _crossing(rng: np.random.Generator) -> LaneGraph:
    return _crossing_of(rng, np.arange(4) * math.pi / 2, near_m=rng.uniform(10.0, 15.0))


def _t_junction(rng: np.random.Generator) -> LaneGraph:
    return _crossing_of(rng, np.arange(3) * math.pi / 2, near_m=rng.uniform(10.0, 15.0))


def _five_arms(rng: np.random.Generator) -> LaneGraph:
    return _crossing_of(rng, np.arange(5) * math.tau / 5, near_m=rng.uniform(17.0, 21.0))


def _two_lane_crossing(rng: np.random.Generator) -> LaneGraph:
    """Return a crossing of two-lane roads: straight on from both lanes, turns from the nearer one."""
    graph = LaneGraph()
    near_m = rng.uniform(15.0, 19.0)
    far_m = near_m + rng.uniform(48.0, 60.0)
    width_m = rng.uniform(3.3, 3.7)
    angles = _spread(rng, np.arange(4) * math.pi / 2, jitter=0.1)
    arms = [
        _arm(graph, k, angle, centre=np.zeros(2), near_m=near_m, far_m=far_m, width_m=width_m, lanes=2)
        for k, angle in enumerate(angles)
    ]
    inner = 0
    outer = 1
    for k, start in enumerate(arms):
        # Arms follow each other counterclockwise: the next one is on the right of those who come in.
        right, ahead, left = (arms[(k + turn) % 4] for turn in (1, 2, 3))
        for lane in (inner, outer):
            graph.connect(start.incoming[lane], ahead.outgoing[lane])
        graph.connect(start.incoming[outer], right.outgoing[outer])
        graph.connect(start.incoming[inner], left.outgoing[inner])
    return graph


def _merge(rng: np.random.Generator) -> LaneGraph:
    """Return a straight road that a ramp joins from the right."""
    graph = LaneGraph()
    bend_m = rng.uniform(25.0, 35.0)
    approach_m = rng.uniform(66.0, 75.0)
    angle = rng.uniform(0.15, 0.4)
    turned = _turn(rng)
    east = np.array([1.0, 0.0])
    start = np.array([-approach_m, 0.0])
    parting = np.zeros(2)
    meeting = bend_m * east
    through = graph.add(turned(np.stack([start, parting])), arm=0)
    ahead = graph.add(turned(np.stack([parting, meeting])))
    exit_ = graph.add(turned(np.stack([meeting, meeting + EXIT_M * east])), arm=2)

    # The ramp comes straight at an angle, then bends into the lane.
    direction = np.array([math.cos(angle), math.sin(angle)])
    bend = np.array([0.0, -0.6 * bend_m * math.sin(angle)])
    ramp = graph.add(turned(np.stack([bend - approach_m * direction, bend])), arm=1)
    joining = graph.add(turned(curve(bend, direction, meeting, east)))
    for first, second in ((through, ahead), (ahead, exit_), (ramp, joining), (joining, exit_)):
        graph.join(first, second)
    return graph


def _lane_drop(rng: np.random.Generator) -> LaneGraph:
    """Return a road of two or three lanes that loses its right one."""
    graph = LaneGraph()
    lanes = int(rng.integers(2, 4))
    width_m = rng.uniform(3.3, 3.7)
    approach_m = rng.uniform(80.0, 90.0)
    taper_m = rng.uniform(25.0, 45.0)
    turned = _turn(rng)
    east = np.array([1.0, 0.0])
    for lane in range(lanes):
        y = -lane * width_m
        stop = np.array([approach_m, y])
        entry = graph.add(turned(np.array([[0.0, y], stop])), arm=lane)
        # The last lane bends into the place of its neighbour, whose exit comes right before its own.
        target = np.array([approach_m + taper_m, y])
        if lane == lanes - 1:
            target = target + np.array([0.0, width_m])
        taper = graph.add(turned(curve(stop, east, target, east)))
        exit_ = graph.add(turned(np.stack([target, target + EXIT_M * east])), arm=lanes + lane)
        graph.join(entry, taper)
        graph.join(taper, exit_)
    return graph


def _roundabout(rng: np.random.Generator) -> LaneGraph:
    """Return a roundabout of three or four single-lane roads."""
    graph = LaneGraph()
    count = int(rng.integers(3, 5))
    radius_m = rng.uniform(13.0, 18.0)
    width_m = rng.uniform(3.3, 3.7)
    near_m = radius_m + 9.0
    far_m = near_m + rng.uniform(46.0, 50.0)
    angles = _spread(rng, np.arange(count) * math.tau / count, jitter=0.12)
    arms = [
        _arm(graph, k, angle, centre=np.zeros(2), near_m=near_m, far_m=far_m, width_m=width_m)
        for k, angle in enumerate(angles)
    ]
    _ring(graph, arms, angles, centre=np.zeros(2), radius_m=radius_m)
    return graph


def _double_roundabout(rng: np.random.Generator) -> LaneGraph:
    """Return two roundabouts of three arms that share one of them."""
    graph = LaneGraph()
    radius_m = rng.uniform(13.0, 15.0)
    width_m = rng.uniform(3.3, 3.7)
    near_m = radius_m + 9.0
    far_m = near_m + rng.uniform(46.0, 50.0)
    half_m = near_m + rng.uniform(6.0, 10.0)
    turn = rng.uniform(0.0, math.tau)
    axis = np.array([math.cos(turn), math.sin(turn)])
    left = np.array([-axis[1], axis[0]]) * width_m / 2
    # The road between the two, one lane each way: to the second roundabout and back.
    ends = np.stack([-(half_m - near_m) * axis, (half_m - near_m) * axis])
    there = graph.add(ends - left)
    back = graph.add(ends[::-1] + left)
    for k, side in enumerate((-1.0, 1.0)):
        centre = side * half_m * axis
        towards = turn
        link = Arm(incoming=[back], outgoing=[there])
        if side > 0.0:
            towards = turn + math.pi
            link = Arm(incoming=[there], outgoing=[back])
        angles = [towards + (1 + i) * math.tau / 3 + rng.uniform(-0.12, 0.12) for i in range(2)]
        arms = [
            _arm(graph, 2 * k + i, angle, centre=centre, near_m=near_m, far_m=far_m, width_m=width_m)
            for i, angle in enumerate(angles)
        ]
        _ring(graph, [link, *arms], [towards, *angles], centre=centre, radius_m=radius_m)
    return graph


def _ring(
    graph: LaneGraph, arms: Sequence[Arm], angles: Sequence[float], *, centre: Points, radius_m: float
) -> None:
    """Add the lane of a roundabout, counterclockwise, and its connections to the arms.

    Args:
        graph: takes the lanes.
        arms: roads with one lane each way, counterclockwise.
        angles: their directions from the centre [rad].
        centre: centre of the ring. Shape: (2,) [m].
        radius_m: radius of the ring's centre line [m].
    """
    # Traffic leaves the ring this far before an arm's axis and enters it as far behind.
    opening = 8.0 / radius_m
    passing = [_arc(graph, centre, radius_m, angle - opening, angle + opening) for angle in angles]
    for k, arm in enumerate(arms):
        # The angle to the next arm, also from the last to the first.
        next_k = (k + 1) % len(arms)
        gap = (angles[next_k] - angles[k]) % math.tau
        # The ring is cut at every arm into the part that passes it and the part between two arms.
        between = _arc(graph, centre, radius_m, angles[k] + opening, angles[k] + gap - opening)
        graph.join(passing[k], between)
        graph.join(between, passing[next_k])
        graph.connect(arm.incoming[0], between)
        graph.connect(between, arms[next_k].outgoing[0])


def _arc(graph: LaneGraph, centre: Points, radius_m: float, start: float, end: float) -> int:
    angle = np.linspace(start, end, 33)
    return graph.add(centre + radius_m * np.stack([np.cos(angle), np.sin(angle)], -1))


def _turn(rng: np.random.Generator) -> Callable[[Points], Points]:
    """Return a rotation by a random angle about the origin."""
    angle = rng.uniform(0.0, math.tau)
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    # Points are rows, so the matrix of the rotation stands transposed on their right.
    return lambda points: points @ matrix


KINDS: dict[str, Callable[[np.random.Generator], LaneGraph]] = {
    "crossing": _crossing,
    "t_junction": _t_junction,
    "two_lane_crossing": _two_lane_crossing,
    "merge": _merge,
    "lane_drop": _lane_drop,
    "roundabout": _roundabout,
}
"""Kinds of training, validation and test maps, in the order of their indices."""
HELD_OUT_KINDS: dict[str, Callable[[np.random.Generator], LaneGraph]] = {
    "five_arms": _five_arms,
    "double_roundabout": _double_roundabout,
}
"""Kinds that no training map has."""
