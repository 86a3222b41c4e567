"""Plan views that span several steps: travelled lines, and the outcome of the episode before."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from factory.envs.rendering.plan_view import Color, Line, Scene, Shape

if TYPE_CHECKING:
    from factory.envs.core.episode_env import EpisodeEnv

Point = tuple[float, float, float]
"""x [m], y [m] and speed [m/s]."""

_GOOD: Color = (60, 170, 90)
_BAD: Color = (214, 48, 49)


class Trails:
    """Remembers where the vehicles of earlier snapshots were, as snapshots hold the present alone."""

    def __init__(self, num_envs: int) -> None:
        """Begin without a point."""
        self._lines: list[list[Point]] = [[] for _ in range(num_envs)]
        self._steps = [0] * num_envs

    def add(self, world: int, *, steps: int, x: Tensor, y: Tensor, speed: Tensor) -> list[Point]:
        """Add the present state of a world, and return the points of its episode.

        Args:
            world: index of the world.
            steps: control steps of its episode; fewer than at the last call begin a new line.
            x: positions of the vehicles. Shape: (num_envs,) [m].
            y: positions of the vehicles. Shape: (num_envs,) [m].
            speed: speeds of the vehicles. Shape: (num_envs,) [m/s].

        Returns:
            Points, oldest first.
        """
        line = self._lines[world]
        # The clock of the episode went back: a new one has begun.
        if steps < self._steps[world]:
            line.clear()
        self._steps[world] = steps
        line.append((float(x[world]), float(y[world]), float(speed[world])))
        return line


class Painter(ABC):
    """Draws the worlds of an environment, which leave trails."""

    _env: Any

    def __init__(self, env: EpisodeEnv) -> None:
        """Begin without trails."""
        self._env = env
        self._trails = Trails(env.num_envs)

    def scenes(self) -> list[Scene]:
        """Return the worlds as they are now."""
        return [self._scene(world) for world in range(self._env.num_envs)]

    @abstractmethod
    def _scene(self, world: int) -> Scene:
        """Return the picture of one world."""


def speed_line(line: list[Point], *, fastest_m_per_s: float, width_m: float) -> list[Shape]:
    """Return a travelled line, red where the vehicle was slow and green where it was fast."""
    pieces: list[Shape] = []
    for (x, y, speed), (next_x, next_y, _) in itertools.pairwise(line):
        share = min(1.0, speed / fastest_m_per_s)
        color = (round(230 * (1 - share)) + 25, round(200 * share) + 40, 60)
        pieces.append(Line(points=np.array([[x, y], [next_x, next_y]]), color=color, width_m=width_m))
    return pieces


def accent(env: EpisodeEnv, world: int, *, tally: Tensor, was_good: Tensor, shown_s: float) -> Color | None:
    """Return the colour of the outcome of the episode before, shortly after its end.

    Args:
        env: the environment.
        world: index of the world.
        tally: outcomes so far; without any there is no episode before. Shape: (num_envs, ...).
        was_good: outcome of the last episode. Shape: (num_envs,) bool.
        shown_s: time after the end for which it is shown [s].
    """
    if float(env.episode_steps[world]) * env.step_dt_s > shown_s or not tally[world].any():
        return None
    if bool(was_good[world]):
        return _GOOD
    return _BAD
