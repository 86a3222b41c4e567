"""Parts of the observations: pure functions.

Sizes: N environments, M movers, L lidar beams.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from factory.envs.tasks.amr.obstacles import Movers
from factory.envs.tasks.amr.robot import NUM_BEAMS, ROBOT_RADIUS_M
from factory.envs.terms.symmetry import Mirror

MOVERS_SEEN = 4
"""Nearest movers that the critic sees."""


def log_range(ranges: Tensor) -> Tensor:
    """Return log(range / robot's radius): a centimetre counts more, the closer it is."""
    return (ranges.clamp(min=0.1) / ROBOT_RADIUS_M).log()


def goal_features(pose: Tensor, goal: Tensor) -> Tensor:
    """Return distance / 10 m, exp(-distance / 1 m), cosine and sine of the bearing.

    Shapes: (N, 3) [m, m, rad], (N, 2) [m] -> (N, 4).
    """
    offset = goal - pose[:, :2]
    distance = offset.norm(dim=-1)
    bearing = torch.atan2(offset[:, 1], offset[:, 0]) - pose[:, 2]
    return route_features(distance, bearing)


def route_features(length: Tensor, bearing: Tensor) -> Tensor:
    """Return length / 10 m, exp(-length / 1 m), cosine and sine of a bearing, as `goal_features`.

    Shapes: (N,) [m], (N,) [rad] -> (N, 4).
    """
    return torch.stack([0.1 * length, (-length).exp(), bearing.cos(), bearing.sin()], -1)


def mover_features(pose: Tensor, movers: Movers) -> Tensor:
    """Return the nearest movers in the robot's frame: x, y, velocity, radius; zeros where there are fewer.

    Shape: (N, 3) [m, m, rad] -> (N, MOVERS_SEEN * 5).
    """
    count = min(MOVERS_SEEN, movers.radius.shape[1])
    cos = pose[:, 2:].cos()
    sin = pose[:, 2:].sin()
    offset = movers.position - pose[:, None, :2]
    velocity = movers.heading * movers.speed[..., None]
    columns = [
        cos * offset[..., 0] + sin * offset[..., 1],
        cos * offset[..., 1] - sin * offset[..., 0],
        cos * velocity[..., 0] + sin * velocity[..., 1],
        cos * velocity[..., 1] - sin * velocity[..., 0],
        movers.radius,
    ]
    nearest = offset.norm(dim=-1).topk(count, largest=False).indices
    seen = torch.stack(columns, -1).gather(1, nearest[..., None].expand(-1, -1, len(columns)))
    padding = seen.new_zeros(len(pose), (MOVERS_SEEN - count) * len(columns))
    return torch.cat([seen.flatten(1), padding], -1)


def exact_features(
    pose: Tensor,
    goal: Tensor,
    movers: Movers,
    *,
    ranges: Tensor,
    known: Tensor,
    remaining: Tensor,
    drawn: Tensor,
) -> Tensor:
    """Return the observation of a critic, which sees without noise and more than the robot.

    Args:
        pose: x, y, heading. Shape: (N, 3) [m, m, rad].
        goal: place to go to. Shape: (N, 2) [m].
        movers: others that move.
        ranges: exact scan. Shape: (N, L) [m].
        known: speeds and last action. Shape: (N, 4).
        remaining: length of the shortest path. Shape: (N,) [m].
        drawn: values drawn for the episode. Shape: (N, D).
    """
    parts = (
        log_range(ranges),
        goal_features(pose, goal),
        known,
        0.1 * remaining[:, None],
        ranges.amin(-1, keepdim=True) - ROBOT_RADIUS_M,
        drawn,
        mover_features(pose, movers),
    )
    return torch.cat(parts, -1)


def route_direction(
    path_length: Callable[[Tensor], Tensor],
    position: Tensor,
    goal: Tensor,
    *,
    angles: Tensor,
    lookahead_m: float,
) -> Tensor:
    """Return the direction in which the shortest path leaves, straight to the goal where that is close [rad].

    Args:
        path_length: returns lengths of shortest paths, (N, P, 2) [m] -> (N, P) [m].
        position: robots. Shape: (N, 2) [m].
        goal: their goals. Shape: (N, 2) [m].
        angles: directions to choose from. Shape: (P,) [rad].
        lookahead_m: distance of the points whose paths are compared [m].
    """
    circle = lookahead_m * torch.stack([angles.cos(), angles.sin()], -1)
    best = angles[path_length(position[:, None] + circle).argmin(-1)]
    offset = goal - position
    is_close = offset.norm(dim=-1) < lookahead_m
    return torch.where(is_close, torch.atan2(offset[:, 1], offset[:, 0]), best)


ACTION_MIRROR = Mirror.signs(1.0, -1.0)
"""Mirror image of an action: the turn rate changes its sign."""


def policy_mirror() -> Mirror:
    """Return the mirror of a `policy` observation: left and right of the robot change places."""
    # Beam i at an angle a becomes that at -a, which is beam L - i; the one ahead stays.
    beams = Mirror((-torch.arange(NUM_BEAMS)).remainder(NUM_BEAMS), torch.ones(NUM_BEAMS))
    goal = Mirror.signs(1.0, 1.0, 1.0, -1.0)
    twist = Mirror.signs(1.0, -1.0)
    return Mirror.concatenate(beams, beams, goal, twist, ACTION_MIRROR)
