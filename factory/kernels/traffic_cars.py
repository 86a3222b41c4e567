"""Cars of the traffic task as their kernel sees them: predictions, contacts, features.

All operations and their order are those of torch, see `factory/envs/tasks/traffic/senses.py`, so that results
are equal bit for bit. exp, tanh and sqrt are torch's own for the same reason: the kernel leaves their
arguments in `Sensed.curves`.

S scenes of C cars, N neighbours, H horizons, F features of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.kernels.compiling import Floats, compiled

Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
ZERO = np.float32(0.0)
ONE = np.float32(1.0)
_TWO = np.float32(2.0)
NUM_PAIR = 16
"""Features of a pair, `NEIGHBOUR_FEATURES`."""


class CarArrays(NamedTuple):
    """State of all cars. Shapes: (S, C)."""

    x: Floats
    y: Floats
    cos: Floats
    sin: Floats
    speed: Floats
    steering: Floats
    acceleration: Floats
    along_m: Floats
    lateral_m: Floats
    length_m: Floats
    standing_s: Floats
    route: Indices
    is_driving: Flags


class Roads(NamedTuple):
    """Columns of `MapTable`."""

    points: Floats
    first_point: Indices
    last_point: Indices
    length_m: Floats
    first_pair: Indices
    rank: Indices
    zones: Floats


class Constants(NamedTuple):
    """Constants of the torch code, passed as arguments: a cached kernel would keep old ones."""

    spacing_m: np.float32
    half_width_m: np.float32
    reach_m: np.float32
    speed_limit: np.float32
    most_steering: np.float32
    most_braking: np.float32
    most_length_m: np.float32


class Sensed(NamedTuple):
    """Results of a pass."""

    seen: Floats
    """Observations. Shape: (S, C, F)."""
    curves: Floats
    """Arguments of two exp, two tanh and a sqrt of every pair that is seen, later their results.

    Every thread begins where those of its first scene would if all pairs were seen. Shape: (5, S C N).
    """
    pairs: Indices
    """Place of every pair's features among all observations. Shape: (S C N,)."""
    num_pairs: Indices
    """Number of pairs that each thread has. Shape: (threads,)."""
    is_touching: Flags
    is_to_blame: Flags
    imminence: Floats
    along_route: Floats


class Room(NamedTuple):
    """Buffers of a thread for one scene."""

    x: Floats
    """Predicted places and directions. Shapes: (H, C)."""
    y: Floats
    cos: Floats
    sin: Floats
    here: Indices
    """Points of the routes at which the cars are. Shape: (C,)."""
    imminence: Floats
    """Shape: (C, C)."""
    touches: Flags
    """Shape: (C, C)."""
    distance: Floats
    """Squared distances from one car. Shape: (C,) [m^2]."""


@compiled(contract=False, inline="always")
def _point_at(roads, route, along_m, spacing_m):
    """Return the index of a route's point, as `MapTable.at` does."""
    first = roads.first_point[route]
    last = roads.last_point[route]
    step = np.rint(along_m / spacing_m)
    # NaN compares as false, and ends at the first point.
    if not step > ZERO:
        return first
    if step >= np.float32(last - first):
        return last
    return first + np.int64(step)


@compiled(contract=False, inline="always")
def predict(cars, roads, constants, horizons, scene, room):
    """Fill in the places of a scene's cars: now, and later if they go on along their routes."""
    for i in range(cars.x.shape[1]):
        if not cars.is_driving[scene, i]:
            continue
        route = cars.route[scene, i]
        lateral = cars.lateral_m[scene, i]
        for h in range(len(horizons)):
            along = cars.along_m[scene, i] + horizons[h] * cars.speed[scene, i]
            at = _point_at(roads, route, along, constants.spacing_m)
            if h == 0:
                room.here[i] = at
                room.x[h, i] = cars.x[scene, i]
                room.y[h, i] = cars.y[scene, i]
                room.cos[h, i] = cars.cos[scene, i]
                room.sin[h, i] = cars.sin[scene, i]
            else:
                cos = roads.points[at, 2]
                sin = roads.points[at, 3]
                room.x[h, i] = roads.points[at, 0] - sin * lateral
                room.y[h, i] = roads.points[at, 1] + cos * lateral
                room.cos[h, i] = cos
                room.sin[h, i] = sin


@compiled(contract=False, inline="always")
def _covers(room, h, i, j, half_i, half_j, half_width):
    """Return whether car j reaches into the box of car i along both of its axes, see `overlaps`."""
    dx = room.x[h, j] - room.x[h, i]
    dy = room.y[h, j] - room.y[h, i]
    ahead = room.cos[h, i] * dx + room.sin[h, i] * dy
    left = room.cos[h, i] * dy - room.sin[h, i] * dx
    cos = abs(room.cos[h, i] * room.cos[h, j] + room.sin[h, i] * room.sin[h, j])
    sin = abs(room.cos[h, i] * room.sin[h, j] - room.sin[h, i] * room.cos[h, j])
    is_along = abs(ahead) < half_i + half_j * cos + half_width * sin
    is_across = abs(left) < half_width + half_j * sin + half_width * cos
    return is_along and is_across


@compiled(contract=False, inline="always")
def meet(cars, constants, levels, scene, room):
    """Fill in contacts now, and the imminence of later ones, for all pairs of a scene."""
    room.imminence[:] = ZERO
    room.touches[:] = False
    half_width = constants.half_width_m
    for i in range(cars.x.shape[1]):
        if not cars.is_driving[scene, i]:
            continue
        half_i = np.float32(0.5) * cars.length_m[scene, i]
        for j in range(i):
            if not cars.is_driving[scene, j]:
                continue
            half_j = np.float32(0.5) * cars.length_m[scene, j]
            # Boxes apart by more than both diagonals, and a tenth for rounding, cannot overlap.
            reach = np.float32(1.1) * (half_i + half_j + _TWO * half_width)
            # The first contact counts, so the latest horizon comes first.
            for h in range(len(levels) - 1, -1, -1):
                dx = room.x[h, j] - room.x[h, i]
                dy = room.y[h, j] - room.y[h, i]
                if dx * dx + dy * dy > reach * reach:
                    continue
                if not _covers(room, h, i, j, half_i, half_j, half_width):
                    continue
                if not _covers(room, h, j, i, half_j, half_i, half_width):
                    continue
                if h == 0:
                    room.touches[i, j] = True
                    room.touches[j, i] = True
                else:
                    room.imminence[i, j] = levels[h]
                    room.imminence[j, i] = levels[h]


@compiled(contract=False, inline="always")
def see_oneself(cars, roads, constants, previews, scene, i, room, own):
    """Fill in the features of a car itself. Shape: (features,)."""
    x = cars.x[scene, i]
    y = cars.y[scene, i]
    cos = cars.cos[scene, i]
    sin = cars.sin[scene, i]
    speed = cars.speed[scene, i]
    along = cars.along_m[scene, i]
    route = cars.route[scene, i]
    here = room.here[i]
    route_cos = roads.points[here, 2]
    route_sin = roads.points[here, 3]
    remaining = roads.length_m[route] - along
    own[0] = speed / constants.speed_limit
    own[1] = (roads.points[here, 4] - speed) / constants.speed_limit
    own[2] = cars.steering[scene, i] / constants.most_steering
    own[3] = cars.acceleration[scene, i] / constants.most_braking
    own[4] = cars.lateral_m[scene, i]
    own[5] = sin * route_cos - cos * route_sin
    own[6] = cos * route_cos + sin * route_sin
    own[7] = min(remaining / np.float32(50.0), _TWO)
    own[8] = cars.length_m[scene, i] / constants.most_length_m
    own[9] = min(cars.standing_s[scene, i] / np.float32(5.0), ONE)
    count = len(previews)
    farthest = previews[-1]
    for k in range(count):
        at = _point_at(roads, route, along + previews[k], constants.spacing_m)
        dx = roads.points[at, 0] - x
        dy = roads.points[at, 1] - y
        own[10 + k] = (cos * dx + sin * dy) / farthest
        own[10 + count + k] = (cos * dy - sin * dx) / farthest


@compiled(contract=False, inline="always")
def see_another(cars, roads, constants, scene, i, j, room, pair, curves):
    """Fill in the features of car j as car i sees it. Shapes: (features,), (5,)."""
    cos = room.cos[0, i]
    sin = room.sin[0, i]
    dx = room.x[0, j] - room.x[0, i]
    dy = room.y[0, j] - room.y[0, i]
    ahead = cos * dx + sin * dy
    left = cos * dy - sin * dx
    seen_cos = cos * room.cos[0, j] + sin * room.sin[0, j]
    seen_sin = cos * room.sin[0, j] - sin * room.cos[0, j]
    own_speed = cars.speed[scene, i]
    other_speed = cars.speed[scene, j]
    curves[4] = max(ahead * ahead + left * left, ONE)
    along = ahead * (own_speed - other_speed * seen_cos)
    across = left * other_speed * seen_sin
    last = len(room.x) - 1
    later_dx = room.x[last, j] - room.x[0, i]
    later_dy = room.y[last, j] - room.y[0, i]
    pair[0] = ONE
    pair[1] = ahead / constants.reach_m
    pair[2] = left / constants.reach_m
    pair[3] = seen_cos
    pair[4] = seen_sin
    pair[5] = other_speed / constants.speed_limit
    # Later divided by the distance, whose square is now in `curves`.
    pair[6] = along - across
    pair[7] = (cos * later_dx + sin * later_dy) / constants.reach_m
    pair[8] = (cos * later_dy - sin * later_dx) / constants.reach_m
    # No zone in common so far: exp(-inf) and tanh(0) are zero.
    curves[0] = -np.float32(np.inf)
    curves[1] = -np.float32(np.inf)
    curves[2] = ZERO
    curves[3] = ZERO
    pair[13] = ZERO
    pair[14] = room.imminence[i, j]
    pair[15] = min(cars.standing_s[scene, j] / np.float32(5.0), ONE)

    # The next zone that both routes share, see `conflicts`: two zones a column.
    zones = roads.zones[roads.first_pair[cars.route[scene, i]] + roads.rank[cars.route[scene, j]]]
    own = cars.along_m[scene, i]
    other = cars.along_m[scene, j]
    own_half = np.float32(0.5) * cars.length_m[scene, i]
    other_half = np.float32(0.5) * cars.length_m[scene, j]
    own_rear = own - own_half
    other_rear = other - other_half
    zone = 0
    if own_rear > zones[2] or other_rear > zones[6]:
        zone = 1
    own_out_m = zones[2 + zone] - own_rear
    other_out_m = zones[6 + zone] - other_rear
    if not (own_out_m > ZERO and other_out_m > ZERO):
        return
    own_in_m = zones[zone] - own - own_half
    other_in_m = zones[4 + zone] - other - other_half
    own_way = max(own_in_m, ZERO)
    other_way = max(other_in_m, ZERO)
    delay = own_way / max(own_speed, ONE) - other_way / max(other_speed, ONE)
    gap = own_in_m - other_in_m - _TWO * other_half
    curves[0] = -own_way / np.float32(15.0)
    curves[1] = -other_way / np.float32(15.0)
    curves[2] = delay / _TWO
    curves[3] = gap / np.float32(10.0)
    pair[13] = min((own_out_m - own_in_m) / np.float32(30.0), ONE)


@compiled(contract=False, inline="always")
def measure(cars, constants, scene, i, room):
    """Fill in the squared distances of the cars that car i observes; inf for all others."""
    room.distance[:] = np.float32(np.inf)
    for j in range(cars.x.shape[1]):
        if j == i or not cars.is_driving[scene, j]:
            continue
        dx = room.x[0, j] - room.x[0, i]
        dy = room.y[0, j] - room.y[0, i]
        ahead = room.cos[0, i] * dx + room.sin[0, i] * dy
        left = room.cos[0, i] * dy - room.sin[0, i] * dx
        distance = ahead * ahead + left * left
        if distance < constants.reach_m * constants.reach_m:
            room.distance[j] = distance


@compiled(contract=False, inline="always")
def neighbour(room, i, k, is_sorted):
    """Return the k-th neighbour of car i, or -1 if there is none; a sorted one is taken out."""
    if is_sorted:
        j = np.argmin(room.distance)
    else:
        # All others in the order of their places.
        j = k + np.int64(k >= i)
    if j >= len(room.distance) or room.distance[j] == np.float32(np.inf):
        return -1
    if is_sorted:
        room.distance[j] = np.float32(np.inf)
    return j


@compiled(contract=False, inline="always")
def reward_facts(room, scene, i, sensed):
    """Fill in the facts that rewards depend on, see `Senses`."""
    is_touching = False
    is_to_blame = False
    imminence = ZERO
    for j in range(len(room.distance)):
        imminence = max(imminence, room.imminence[i, j])
        if not room.touches[i, j]:
            continue
        is_touching = True
        # See `struck_from_behind`.
        dx = room.x[0, j] - room.x[0, i]
        dy = room.y[0, j] - room.y[0, i]
        ahead = room.cos[0, i] * dx + room.sin[0, i] * dy
        left = room.cos[0, i] * dy - room.sin[0, i] * dx
        cos = room.cos[0, i] * room.cos[0, j] + room.sin[0, i] * room.sin[0, j]
        if not (ahead < -abs(left) and cos > np.float32(0.7)):
            is_to_blame = True
    sensed.is_touching[scene, i] = is_touching
    sensed.is_to_blame[scene, i] = is_to_blame
    sensed.imminence[scene, i] = imminence
