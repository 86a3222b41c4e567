"""Lanes, the graph they form, and the routes through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""Points in the plane. Shape: (n, 2) [m]."""

SPACING_M = 0.5
"""Distance between the points of a route [m]."""
TAIL_M = 25.0
"""Length by which the points of a route go on, straight, behind its goal [m]."""


@dataclass(kw_only=True)
class Lane:
    """The centre line of a lane in driving direction."""

    points: Points
    """Shape: (n, 2) [m]."""
    arm: int = -1
    """Arm of the junction that the lane belongs to; -1 within the junction."""
    successors: list[int] = field(default_factory=list)
    """Lanes that it leads to."""

    @property
    def start(self) -> tuple[Points, Points]:
        """First point, and the unit vector of the driving direction there. Shapes: (2,), (2,)."""
        return self.points[0], _unit(self.points[1] - self.points[0])

    @property
    def end(self) -> tuple[Points, Points]:
        """Last point, and the unit vector of the driving direction there. Shapes: (2,), (2,)."""
        return self.points[-1], _unit(self.points[-1] - self.points[-2])


@dataclass(frozen=True, kw_only=True)
class Route:
    """A way from an entry to an exit, as points at a distance of `SPACING_M`."""

    points: Points
    """Points from the entry to the goal and `TAIL_M` beyond. Shape: (n, 2) [m]."""
    length_m: float
    """Distance from the entry to the goal [m]."""
    entry: int
    """Lane that the route begins with."""
    entry_m: float
    """Length of that lane [m]."""


class LaneGraph:
    """Lanes and their successors."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []

    def add(self, points: Points, *, arm: int = -1) -> int:
        """Add a lane and return its index."""
        self.lanes.append(Lane(points=points, arm=arm))
        return len(self.lanes) - 1

    def join(self, first: int, second: int) -> None:
        """Let a lane lead to another that begins at its end."""
        self.lanes[first].successors.append(second)

    def connect(self, first: int, second: int) -> None:
        """Add a smooth lane from the end of one to the start of another."""
        start, start_direction = self.lanes[first].end
        end, end_direction = self.lanes[second].start
        between = self.add(curve(start, start_direction, end, end_direction))
        self.join(first, between)
        self.join(between, second)

    def routes(self) -> list[Route]:
        """Return the shortest route from every entry to every exit but those of its own arm, by entry."""
        # Entries are the lanes that no other lane leads to.
        led_to = {successor for lane in self.lanes for successor in lane.successors}
        entries = [index for index in range(len(self.lanes)) if index not in led_to]
        shortest: dict[tuple[int, int], Route] = {}
        for path in (path for entry in entries for path in self._paths([entry])):
            route = self._route(path)
            ends = (path[0], path[-1])
            if ends not in shortest or route.length_m < shortest[ends].length_m:
                shortest[ends] = route
        return list(shortest.values())

    def _paths(self, path: list[int]) -> Iterator[list[int]]:
        """Yield the ways on from a path to every exit, without driving in circles."""
        last = self.lanes[path[-1]]
        returns = last.arm == self.lanes[path[0]].arm
        if not last.successors and not returns:
            yield path
        for successor in last.successors:
            if successor not in path:
                yield from self._paths([*path, successor])

    def _route(self, path: list[int]) -> Route:
        joined = np.concatenate([self.lanes[index].points for index in path])
        last, direction = self.lanes[path[-1]].end
        distances = _distances(joined)
        # Cars on the last metres still look ahead.
        joined = np.concatenate([joined, [last + TAIL_M * direction]])
        along = np.append(distances, distances[-1] + TAIL_M)
        at = np.arange(0.0, along[-1], SPACING_M)
        entry_m = float(_distances(self.lanes[path[0]].points)[-1])
        points = np.stack([np.interp(at, along, joined[:, axis]) for axis in range(2)], -1)
        return Route(points=points, length_m=float(distances[-1]), entry=path[0], entry_m=entry_m)


def curve(start: Points, start_direction: Points, end: Points, end_direction: Points) -> Points:
    """Return a cubic Hermite curve between two points with given directions. Shape: (33, 2) [m]."""
    # A tangent of 1.17 chords turns a quarter of a circle into a curve of nearly constant radius.
    handle = 1.17 * np.linalg.norm(end - start)
    t = np.linspace(0.0, 1.0, 33)[:, None]
    return (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * handle * start_direction
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * handle * end_direction
    )


def tightest_radius_m(points: Points) -> float:
    """Return the smallest radius of curvature along the points of a route [m]."""
    steps = np.diff(points, axis=0)
    heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    # Over 2 m, so that the joints of polylines do not count as bends.
    turn = np.abs(heading[4:] - heading[:-4])
    return float(4 * SPACING_M / max(turn.max(), 1e-6))


def _distances(points: Points) -> Points:
    """Return the distance along a polyline of every point from the first. Shape: (n,) [m]."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    # Lanes repeat the point where they meet; interpolation needs rising distances.
    return np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1e-9))])


def _unit(vector: Points) -> Points:
    return vector / np.linalg.norm(vector)
