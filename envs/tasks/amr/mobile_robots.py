"""Mobile robots with a lidar on their way to a goal, in whatever hall and moved by whatever simulation.

Sizes: N robots, P points, L lidar beams.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import PlanView
from factory.envs.tasks.amr import scoring
from factory.envs.tasks.amr.features import exact_features, log_range
from factory.envs.tasks.amr.lidar import CastRays, Lidar, put
from factory.envs.tasks.amr.motion import approached, commanded
from factory.envs.tasks.amr.obstacles import Boxes, Gap, Movers, gaps
from factory.envs.tasks.amr.robot import (
    ACCELERATION,
    GOAL_RADIUS_M,
    LAG_STEPS,
    MAX_SPEED_M_PER_S,
    NUM_BEAMS,
    RANGE_M,
    STEP_S,
)
from factory.envs.tasks.amr.table import EpisodeSet
from factory.kernels import are_enabled
from factory.kernels.scans import Noise, Obstacles

Rows = slice | Tensor
"""Numbers of rows, which a CUDA graph cannot find out, or a slice."""
ALL = slice(None)


class MobileRobots(PlanView, EpisodeEnv):
    """Robots of the tasks `amr_*`: commands, odometry, lidar, outcomes and rewards.

    A task opens the state with `_open_robots`, begins episodes with `_begin`, moves the robots after
    `_command`, and tells where everything is.
    """

    outcomes: tuple[str, ...] = scoring.OUTCOMES
    episode_metrics: tuple[str, ...] = scoring.EPISODE_METRICS
    reward_terms = scoring.REWARD_TERMS
    persistent: tuple[str, ...] = (
        "twist",
        "_shortest",
        "_remaining",
        "_action",
        "_last_action",
        "_slip",
        "_drift",
        "_travelled",
        "elapsed_s",
        "_clearance",
        "_ranges",
        "_scans",
        "_ends_as",
        "last_outcome",
    )
    speed_m_per_s: ClassVar[tuple[float, float]] = (0.0, MAX_SPEED_M_PER_S)
    """Range of the commanded speeds [m/s]."""

    boxes: Boxes
    """Boxes of each robot's hall."""
    size_m: float
    """Edge of the hall [m]."""
    recipe: EpisodeSet
    """Noise of the lidar, slip and drift."""

    # Hooks that a task implements.

    @property
    @abstractmethod
    def pose(self) -> Tensor:
        """Position and heading of the robots. Shape: (N, 3) [m, m, rad]."""

    @property
    @abstractmethod
    def goal(self) -> Tensor:
        """Place of each robot's goal. Shape: (N, 2) [m]."""

    @property
    @abstractmethod
    def movers(self) -> Movers:
        """Whoever else moves in each robot's hall."""

    @abstractmethod
    def _velocity_now(self) -> Tensor:
        """Return the velocities of the robots in the step just made. Shape: (N, 2) [m/s]."""

    @abstractmethod
    def _path_length(self, points: Tensor, rows: Rows = ALL) -> Tensor:
        """Return lengths of the shortest paths to the goals of rows. Shapes: (N, P, 2) [m] -> (N, P) [m]."""

    @abstractmethod
    def _guide(self, odometry: Tensor, rows: Rows) -> Tensor:
        """Return the observation's part that leads from poses (N, 3) to the goals of rows. Shape: (N, 4)."""

    def _obstacles(self) -> Obstacles | None:
        """Return what the compiled scan needs, or None to cast rays."""
        return None

    # State.

    @property
    def _uses_kernels(self) -> bool:
        """True on a CPU, unless kernels are off or a CUDA graph is imitated."""
        return self._reads_values and are_enabled()

    def _gaps(self, points: Tensor) -> Gap:
        """Return distances of points (N, P, 2) [m] from boxes and walls."""
        return gaps(points, self.boxes, size_m=self.size_m, compiled=self._uses_kernels)

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    def _open_robots(self, cast_rays: CastRays) -> None:
        """Place the tensors of robots and their episodes on the device."""

        def zeros(*size: int) -> Tensor:
            return torch.zeros(self.num_envs, *size, device=self.device)

        self.lidar = Lidar(cast_rays, num_envs=self.num_envs, device=self.device)
        self._ranges = self.lidar.ranges
        self._scans = self.lidar.scans
        self._most_change = torch.tensor(ACCELERATION, device=self.device) * STEP_S
        self.twist = zeros(2)
        """Speed and turn rate, before slip. Shape: (N, 2) [m/s, rad/s]."""
        self._shortest = zeros()
        self._remaining = zeros()
        self._action = zeros(2)
        self._last_action = zeros(2)
        self._slip = zeros(2)
        self._drift = zeros(3)
        self._travelled = zeros()
        self.elapsed_s = zeros()
        self._clearance = zeros()
        self._ends_as = torch.full((self.num_envs,), -1, dtype=torch.int64, device=self.device)
        self.last_outcome = self._ends_as.clone()

    def _begin(
        self, rows: Tensor, *, shortest: Tensor, remaining: Tensor, slip: Tensor, drift: Tensor
    ) -> None:
        """Begin the episodes of robots, which stand still.

        Args:
            rows: mask of the robots that start, or their numbers; the values are for these, see `put`.
            shortest: length of the shortest path as the score counts it. Shape: (N,) [m].
            remaining: the same as `_path_length` has it. Shape: (N,) [m].
            slip: draws from U(-1, 1) for speed and turn rate. Shape: (N, 2).
            drift: draws from U(-1, 1) for the drift's direction and its turn. Shape: (N, 2).
        """
        angle = math.pi * drift[:, 0]
        direction = torch.stack([angle.cos(), angle.sin(), drift[:, 1]], -1)
        ended_as = self._ends_as
        if rows.dtype != torch.bool:
            ended_as = ended_as[rows]
        for kept, value in (
            # The picture of a new episode tells how the last one ended.
            (self.last_outcome, ended_as),
            (self._shortest, shortest),
            (self._remaining, remaining),
            (self._slip, slip * self.recipe.slip),
            (self._drift, direction * self.recipe.drift),
        ):
            put(kept, value, rows)
        for kept in (self.twist, self._action, self._last_action, self._travelled, self.elapsed_s):
            put(kept, 0.0, rows)
        put(self._clearance, RANGE_M, rows)

    @property
    def position(self) -> Tensor:
        """Position of the robots. Shape: (N, 2) [m]."""
        return self.pose[:, :2]

    def _executed_twist(self) -> Tensor:
        """Return speed and turn rate with the episode's slip. Shape: (N, 2)."""
        return self.twist * (1.0 + self._slip)

    # Control step.

    def _command(self, action: Tensor) -> None:
        """Change speed and turn rate towards what `action` (N, 2) asks for."""
        self._last_action.copy_(self._action)
        self._action.copy_(self.native_actions(action))
        wanted = commanded(self._action, speed_m_per_s=self.speed_m_per_s)
        self.twist.copy_(approached(self.twist, wanted, self._most_change))

    def _room(self) -> scoring.Contact:
        """Return the room around the robots after a step, and bring the sums of the episodes up to date."""
        self.lidar.stale.fill_(True)
        position = self.position
        to_static = self._gaps(position[:, None]).distance[:, 0]
        contact = scoring.contact_of(to_static, position, self._velocity_now(), self.movers)
        self.elapsed_s += STEP_S
        self._travelled += self._executed_twist()[:, 0].abs() * STEP_S
        self._clearance.copy_(torch.minimum(self._clearance, contact.clearance))
        return contact

    def _progress(self) -> Tensor:
        """Return the metres by which the shortest path got shorter in this step. Shape: (N,)."""
        remaining = self._path_length(self.position[:, None])[:, 0]
        progress = self._remaining - remaining
        self._remaining.copy_(remaining)
        return progress

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        contact = self._room()
        clearance = contact.clearance
        collided = clearance < 0.0
        reached = ((self.position - self.goal).norm(dim=-1) < GOAL_RADIUS_M) & ~collided
        terms = scoring.reward_terms(
            self.cfg.rewards,
            progress=self._progress(),
            clearance=clearance,
            reached=reached,
            change=self._action - self._last_action,
        )
        self._ends_as.copy_(scoring.outcomes(contact, reached))
        info = {
            "reward_terms": terms,
            "outcome": self._ends_as.clone(),
            "diagnostics": {"clearance": clearance, "speed": self.twist[:, 0].clone()},
            "episode_metrics": scoring.episode_metrics(
                reached,
                shortest=self._shortest,
                travelled=self._travelled,
                elapsed=self.elapsed_s,
                clearance=self._clearance,
            ),
        }
        return terms.sum(-1), collided | reached, info

    # Observation.

    def _scan(self) -> None:
        """Scan where something has changed."""
        recipe = self.recipe
        noise = Noise(
            self.normal(NUM_BEAMS), self.uniform(0.0, 1.0, NUM_BEAMS), recipe.range_noise_m, recipe.dropout
        )
        obstacles = None
        if self._uses_kernels:
            obstacles = self._obstacles()
        self.lidar.refresh(self.pose, begins=self.elapsed_s == 0.0, noise=noise, obstacles=obstacles)

    def _get_observations(self) -> Observation:
        self._scan()
        return self._observe(ALL)

    def _first_observations(self, mask: Tensor, obs: Observation) -> Observation:
        if not self._reads_values:
            return super()._first_observations(mask, obs)
        # Few rows begin at once; random numbers are drawn for all, as elsewhere.
        self._scan()
        rows = mask.nonzero()[:, 0]
        first = self._observe(rows)
        return {name: group.index_copy(0, rows, first[name]) for name, group in obs.items()}

    def _observe(self, rows: Rows) -> Observation:
        """Return the observations of rows after a scan."""
        pose = self.pose[rows]
        known = torch.cat([self.twist[rows], self._action[rows]], -1)
        drift = self._drift[rows]
        odometry = pose + drift * self._travelled[rows][:, None]
        scans = log_range(self._scans[rows][:, ::LAG_STEPS]).flatten(1)
        policy = (scans, self._guide(odometry, rows), known)
        critic = exact_features(
            pose,
            self.goal[rows],
            Movers(*(part[rows] for part in self.movers)),
            ranges=self._ranges[rows],
            known=known,
            remaining=self._remaining[rows],
            drawn=torch.cat([self._slip[rows], drift], -1),
        )
        return {"policy": torch.cat(policy, -1), "critic": critic}
