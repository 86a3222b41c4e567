"""Controllers to compare with: blind, with the lidar, and with the map.

Sizes: N environments, L lidar beams, C candidates, T points of a trajectory.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.amr.features import route_direction
from factory.envs.tasks.amr.robot import (
    ACCELERATION,
    MAX_SPEED_M_PER_S,
    MAX_TURN_RAD_PER_S,
    NUM_BEAMS,
    RANGE_M,
    ROBOT_RADIUS_M,
    STEP_S,
)
from factory.policies.base import Observations

_GOAL = 2 * NUM_BEAMS
"""Column of `policy` observations with the goal's distance / 10 m; then exp(-distance), cos, sin, twist."""

_FACING_RAD = 0.8
"""Bearing beyond which a robot turns on the spot [rad]."""


def _action(speed: Tensor, turn_rate: Tensor) -> Tensor:
    """Return the action of a speed and a turn rate. Shapes: (N,) -> (N, 2)."""
    forward = 2.0 * speed / MAX_SPEED_M_PER_S - 1.0
    return torch.stack([forward, turn_rate / MAX_TURN_RAD_PER_S], -1).clamp(-1.0, 1.0)


def _towards(bearing: Tensor, speed: Tensor) -> Tensor:
    """Return the action that turns to a bearing and drives where it points. Shape: (N,) [rad] -> (N, 2)."""
    # The more it has to turn, the slower it drives.
    facing = (1.0 - bearing.abs() / _FACING_RAD).clamp(min=0.0)
    return _action(speed * facing, 2.5 * bearing)


def path_bearing(env: Any, angles: Tensor, *, lookahead_m: float) -> Tensor:
    """Return the bearing in which the shortest path leaves. Shape: (N,) [rad].

    Args:
        env: an `AmrNavigate`, whose map and true pose are read.
        angles: directions that the path may take. Shape: (P,) [rad].
        lookahead_m: distance of the points whose paths are compared [m].
    """
    direction = route_direction(
        partial(env.course.path_length, env.episode),
        env.position,
        env.goal,
        angles=angles,
        lookahead_m=lookahead_m,
    )
    # Wrapped to [-pi, pi): the shorter way around.
    return torch.remainder(direction - env.pose[:, 2] + math.pi, math.tau) - math.pi


class StandStill(Baseline):
    """Stands still; the action zero is half of the speed range. It reads nothing."""

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (N, 2) and the memory, which is empty."""
        still = torch.zeros(self.env.num_envs, device=self.env.device)
        return _action(still, still), state


class TurnToGoal(Baseline):
    """Turns to the goal and drives, blind to everything else. It reads the `policy` observation."""

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (N, 2) and the memory, which is empty."""
        goal = obs["policy"][:, _GOAL : _GOAL + 4]
        bearing = torch.atan2(goal[:, 3], goal[:, 2])
        return _towards(bearing, torch.full_like(bearing, MAX_SPEED_M_PER_S)), state


class DynamicWindow(Baseline):
    """Dynamic window approach (Fox et al. 1997) on the newest scan. It reads the `policy` observation.

    Five speeds and thirteen turn rates that the robot can have in the next step are held for two seconds;
    those that touch something the lidar sees are left out, and the best mix of heading, room and speed is
    taken.
    """

    def __init__(
        self,
        env: TrainingEnv,
        *,
        horizon_s: float = 2.0,
        heading: float = 0.2,
        room: float = 0.5,
        speed: float = 1.2,
        margin_m: float = 0.04,
    ) -> None:
        """Prepare the candidates; the last four options are weights and the margin around the robot."""
        super().__init__(env)
        self._weights = (heading, room, speed)
        self._margin_m = margin_m
        device = env.device
        grid = torch.cartesian_prod(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 13)).to(device)
        # Commands for a quarter of a second ahead, so that candidates differ enough to matter.
        self._changes = grid * torch.tensor(ACCELERATION, device=device) * (2.5 * STEP_S)
        self._times = torch.arange(1, 11, device=device) * (horizon_s / 10.0)
        angle = torch.arange(NUM_BEAMS, device=device) * (math.tau / NUM_BEAMS)
        self._beams = torch.stack([angle.cos(), angle.sin()], -1)

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (N, 2) and the memory, which is empty."""
        # In parts of 64 environments, whose distances stay in the cache.
        parts = [self._best(part) for part in obs["policy"].split(64)]
        return torch.cat(parts), state

    def _best(self, obs: Tensor) -> Tensor:
        # Undo the scaling of the observation, see `AmrNavigate`.
        ranges = obs[:, :NUM_BEAMS].exp() * ROBOT_RADIUS_M
        goal = obs[:, _GOAL : _GOAL + 4]
        twist = obs[:, _GOAL + 4 : _GOAL + 6]
        distance = 10.0 * goal[:, 0]
        target = distance[:, None] * goal[:, 2:4]
        # A beam that met nothing is no obstacle.
        hits = ranges[..., None] * self._beams
        hits = torch.where((ranges < RANGE_M - 0.1)[..., None], hits, 1e3)

        speed = (twist[:, :1] + self._changes[:, 0]).clamp(0.0, MAX_SPEED_M_PER_S)
        turn = (twist[:, 1:] + self._changes[:, 1]).clamp(-MAX_TURN_RAD_PER_S, MAX_TURN_RAD_PER_S)
        points, headings = self._trajectories(speed, turn)
        # Shape: (n, C, T), the gap at every point of every candidate.
        flat = points.flatten(1, 2)
        gap = torch.cdist(flat, hits, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
        gap = gap.unflatten(1, points.shape[1:3]) - ROBOT_RADIUS_M - self._margin_m

        # Length that is driven before the first touch; the robot must be able to stop within it.
        is_free = (gap > 0.0).float().cumprod(-1)
        free_m = speed * self._times[0] * is_free.sum(-1)
        always_free = is_free[..., -1] > 0.0
        stops = speed.square() / (2.0 * ACCELERATION[0]) + speed * STEP_S
        is_admissible = always_free | (stops <= free_m)

        to_target = target[:, None] - points[:, :, -1]
        error = torch.atan2(to_target[..., 1], to_target[..., 0]) - headings[:, :, -1]
        heading_score = 0.5 + 0.5 * error.cos()
        room_score = gap.amin(-1).clamp(0.0, 0.5) / 0.5
        by_heading, by_room, by_speed = self._weights
        score = by_heading * heading_score + by_room * room_score + by_speed * speed / MAX_SPEED_M_PER_S
        # Close to the goal, the end of the trajectory shall be there.
        score = score - to_target.norm(dim=-1) * (distance < 1.5)[:, None]
        best = torch.where(is_admissible, score, -1e3 + score).argmax(-1, keepdim=True)
        none = ~is_admissible.any(-1)
        chosen_speed = torch.where(none, 0.0, speed.gather(1, best)[:, 0])
        # Without a way on, it turns on the spot to where there is most room.
        freest = self._beams[ranges.argmax(-1)]
        escape = MAX_TURN_RAD_PER_S * torch.where(freest[:, 1] >= 0.0, 1.0, -1.0)
        chosen_turn = torch.where(none, escape, turn.gather(1, best)[:, 0])
        return _action(chosen_speed, chosen_turn)

    def _trajectories(self, speed: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Return points (n, C, T, 2) and headings (n, C, T) of arcs from the robot's pose."""
        headings = turn[..., None] * self._times
        # Chord of an arc: v t sinc(w t / 2), in the direction of half the turn.
        half = 0.5 * headings
        chord = speed[..., None] * self._times * torch.sinc(half / math.pi)
        points = torch.stack([chord * half.cos(), chord * half.sin()], -1)
        return points, headings


class ShortestPath(Baseline):
    """Follows the shortest path on the map, blind to movers. It reads the map and the true pose.

    An upper reference for halls without movers, since no lidar sees as much.
    """

    def __init__(self, env: TrainingEnv, *, lookahead_m: float = 0.3) -> None:
        """Look along the path for `lookahead_m`."""
        super().__init__(env)
        self._angles = torch.arange(64, device=env.device) * (math.tau / 64)
        self._lookahead_m = lookahead_m

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (N, 2) and the memory, which is empty."""
        bearing = path_bearing(self.env, self._angles, lookahead_m=self._lookahead_m)
        return _towards(bearing, torch.full_like(bearing, MAX_SPEED_M_PER_S)), state
