"""A fleet of mobile robots in one hall, each a row with an episode of its own.

Sizes: N rows, W worlds of K robots, S stations, L lidar beams.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import PlanView, Scene
from factory.envs.tasks.amr import fleet_drawing, scoring
from factory.envs.tasks.amr.features import exact_features, log_range, route_direction, route_features
from factory.envs.tasks.amr.fleet_config import AmrFleetConfig
from factory.envs.tasks.amr.fleet_maps import NUM_STATIONS, SIZE_M, fleet_maps
from factory.envs.tasks.amr.lidar import Lidar, put
from factory.envs.tasks.amr.motion import approached, commanded, velocity
from factory.envs.tasks.amr.obstacles import Boxes, Movers, gaps
from factory.envs.tasks.amr.raycast import cast_rays
from factory.envs.tasks.amr.robot import (
    ACCELERATION,
    GOAL_RADIUS_M,
    LAG_STEPS,
    MAX_SPEED_M_PER_S,
    NUM_BEAMS,
    RANGE_M,
    ROBOT_RADIUS_M,
    STEP_S,
)
from factory.envs.tasks.amr.table import SETS

_SPEEDS = (0.0, MAX_SPEED_M_PER_S)
_SHORTEST_M = 3.0
"""Least length of the path to a goal."""
_FREE_M = 1.0
"""Distance of other robots from a station where a robot may start."""
_LOOKAHEAD_M = 0.5
_FAR_M = 1e3


class AmrFleet(PlanView, EpisodeEnv):
    """Eight robots of `amr_navigate` drive between the stations of a hall with shelves, at 10 Hz.

    A hall holds `agents_per_world` robots that share one policy; each is a row with an episode of its own.
    An episode begins at a free station and leads to another one, at least 3 m of way off. It ends within
    0.3 m of the goal (success), when the robot touches a shelf or wall, or another robot, at fault if it
    drove towards that one, or at the time limit of 40 s. The robot leaves the floor, and the next one of its
    row starts at once from another station; the others go on. Nobody yields but by its own decision.

    A planner with the map, but blind to robots, gives each one the direction in which its shortest path
    leaves: what is to be learned is how to pass each other in aisles, and in gaps of 1 to 1.5 m.

    Torch alone simulates it: a row that starts anew while its neighbours drive on is more than MuJoCo's
    reset of a whole world can do. Speeds and accelerations, slip, odometry and lidar are those of
    `amr_navigate`, whose servos follow within 1 %; robots are seen by the others' lidars.

    Action (N, 2) in [-1, 1]: speed from 0 to 1 m/s, turn rate up to 1.5 rad/s.
    `policy` observation (N, 136), as in `amr_navigate`: two lidar scans, 128; length of the way to the goal
    / 10 m, its exp(-length / 1 m), cosine and sine of the bearing of the route, from where the drifting
    odometry has the robot; speed [m/s] and turn rate [rad/s]; last action.
    `critic` (N, 99): that of `amr_navigate`, with the four nearest robots in the place of movers.
    Outcomes and metrics are those of `amr_navigate`, where a mover is another robot.
    """

    config = AmrFleetConfig
    step_dt_s = STEP_S
    outcomes = scoring.OUTCOMES
    episode_metrics = scoring.EPISODE_METRICS
    reward_terms = scoring.REWARD_TERMS
    persistent = (
        "pose",
        "twist",
        "station",
        "_velocity",
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
        "ended_at",
    )

    cfg: AmrFleetConfig

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    def _setup(self) -> None:
        cfg = self.cfg
        device = self.device
        self.shape = (self.num_worlds, cfg.agents_per_world)
        self.maps = fleet_maps(cfg.maps, cfg.num_maps, device)
        first = self.shard.rows(self.num_worlds).start
        world = first + torch.arange(self.num_worlds, device=device)
        self.hall = (world % cfg.num_maps).repeat_interleave(cfg.agents_per_world)
        self.boxes = Boxes.of(self.maps.boxes[self.hall])

        # The other robots of each robot's world, and the stations from which each of them may start: no two
        # share one, so that robots that start together do not meet.
        robot = torch.arange(cfg.agents_per_world, device=device)
        others = torch.arange(cfg.agents_per_world - 1, device=device).expand(cfg.agents_per_world, -1)
        self._others = others + (others >= robot[:, None])
        per_robot = NUM_STATIONS // cfg.agents_per_world
        starts = robot[:, None] + cfg.agents_per_world * torch.arange(per_robot, device=device)
        self._starts = starts.repeat(self.num_worlds, 1)

        self._most_change = torch.tensor(ACCELERATION, device=device) * STEP_S
        self._angles = torch.arange(32, device=device) * (math.tau / 32)
        self._recipe = SETS["train"]
        self.lidar = Lidar(self._cast_rays, num_envs=self.num_envs, device=device)
        self._ranges = self.lidar.ranges
        self._scans = self.lidar.scans

        def zeros(*size: int) -> Tensor:
            return torch.zeros(self.num_envs, *size, device=device)

        self.pose = zeros(3)
        self.twist = zeros(2)
        self.station = torch.zeros(self.num_envs, dtype=torch.int64, device=device)
        self._velocity = zeros(3)
        self._shortest = zeros()
        self._remaining = zeros()
        self._action = zeros(2)
        self._last_action = zeros(2)
        self._slip = zeros(2)
        self._drift = zeros(3)
        self._travelled = zeros()
        self.elapsed_s = zeros()
        self._clearance = zeros()
        self._ends_as = torch.full_like(self.station, -1)
        self.last_outcome = self._ends_as.clone()
        self.ended_at = zeros(2)

    # Episode start.

    def _reset_envs(self, mask: Tensor) -> None:
        start, draws = self._free_station(mask)
        way = self.maps.between[self.hall, start]
        # One of the stations that are far enough.
        station = (self.uniform(0.0, 1.0, NUM_STATIONS) + (way >= _SHORTEST_M)).argmax(-1)
        shortest = way.gather(1, station[:, None])[:, 0]
        place = self.maps.stations[self.hall, start]
        pose = torch.cat([place, math.pi * draws[:, :1]], -1)
        angle = math.pi * draws[:, 1]
        drift = torch.stack([angle.cos(), angle.sin(), draws[:, 2]], -1) * self._recipe.drift
        put(self.ended_at, self.pose[:, :2], mask)
        for kept, value in (
            (self.last_outcome, self._ends_as),
            (self.pose, pose),
            (self.station, station),
            (self._shortest, shortest),
            (self._remaining, shortest),
            (self._slip, draws[:, 3:5] * self._recipe.slip),
            (self._drift, drift),
        ):
            put(kept, value, mask)
        for kept in (
            self.twist,
            self._velocity,
            self._action,
            self._last_action,
            self._travelled,
            self.elapsed_s,
        ):
            put(kept, torch.zeros_like(kept), mask)
        put(self._clearance, torch.full_like(self._clearance, RANGE_M), mask)
        # A robot that starts shows in the scans of all others from their next step on.
        self.lidar.stale |= mask

    def _free_station(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return stations for robots that start, and further draws from U(-1, 1). Shapes: (N,), (N, 5)."""
        draws = self.uniform(-1.0, 1.0, 5 + self._starts.shape[1])
        places = self.maps.stations[self.hall[:, None], self._starts]
        # Robots that leave are not in the way.
        position = self.pose[:, :2].masked_fill(mask[:, None], _FAR_M)
        around = position.view(*self.shape, 2).repeat_interleave(self.shape[1], 0)
        room = (places[:, :, None] - around[:, None]).norm(dim=-1).amin(-1)
        # Any of the free ones; where there is none, the one with most room.
        score = torch.where(room > _FREE_M, _FREE_M + 1.0 + draws[:, 5:], room)
        best = score.argmax(-1, keepdim=True)
        return self._starts.gather(1, best)[:, 0], draws

    # Control step.

    def _advance(self, action: Tensor) -> None:
        self._last_action.copy_(self._action)
        self._action.copy_(self.native_actions(action))
        wanted = commanded(self._action, speed_m_per_s=_SPEEDS)
        self.twist.copy_(approached(self.twist, wanted, self._most_change))
        executed = self.twist * (1.0 + self._slip)
        self._velocity.copy_(velocity(self.pose[:, 2], executed, step_s=STEP_S))
        self.pose.add_(self._velocity, alpha=STEP_S)
        self.elapsed_s += STEP_S
        self._travelled += executed[:, 0] * STEP_S
        self.lidar.stale.fill_(True)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        position = self.position
        to_static = gaps(position[:, None], self.boxes, size_m=SIZE_M).distance[:, 0]
        contact = scoring.contact_of(to_static, position, self._velocity[:, :2], self.movers)
        clearance = contact.clearance
        collided = clearance < 0.0
        reached = ((position - self.goal).norm(dim=-1) < GOAL_RADIUS_M) & ~collided
        self._clearance.copy_(torch.minimum(self._clearance, clearance))

        remaining = self._path_length(position[:, None])[:, 0]
        terms = scoring.reward_terms(
            self.cfg.rewards,
            progress=self._remaining - remaining,
            clearance=clearance,
            reached=reached,
            change=self._action - self._last_action,
        )
        self._remaining.copy_(remaining)
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

    def _get_observations(self) -> Observation:
        self.lidar.refresh(
            self.pose,
            begins=self.elapsed_s == 0.0,
            noise=self.normal(NUM_BEAMS),
            chance=self.uniform(0.0, 1.0, NUM_BEAMS),
            recipe=self._recipe,
        )
        known = torch.cat([self.twist, self._action], -1)
        odometry = self.pose + self._drift * self._travelled[:, None]
        policy = (log_range(self._scans[:, ::LAG_STEPS]).flatten(1), self._route(odometry), known)
        critic = exact_features(
            self.pose,
            self.goal,
            self.movers,
            ranges=self._ranges,
            known=known,
            remaining=self._remaining,
            drawn=torch.cat([self._slip, self._drift], -1),
        )
        return {"policy": torch.cat(policy, -1), "critic": critic}

    def _route(self, pose: Tensor) -> Tensor:
        """Return what a planner says of the way from poses (N, 3) to the goals. Shape: (N, 4)."""
        position = pose[:, :2]
        direction = route_direction(
            self._path_length, position, self.goal, angles=self._angles, lookahead_m=_LOOKAHEAD_M
        )
        return route_features(self._path_length(position[:, None])[:, 0], direction - pose[:, 2])

    def _cast_rays(self, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
        return cast_rays(origin, direction, boxes=self.boxes, discs=self.movers, size_m=SIZE_M)

    def _path_length(self, points: Tensor) -> Tensor:
        """Return lengths of the shortest paths to the goals. Shapes: (N, P, 2) [m] -> (N, P) [m]."""
        return self.maps.path_length(self.hall, self.station, points)

    # State of the worlds now.

    @property
    def position(self) -> Tensor:
        """Position of the robots. Shape: (N, 2) [m]."""
        return self.pose[:, :2]

    @property
    def goal(self) -> Tensor:
        """Place of each robot's goal. Shape: (N, 2) [m]."""
        return self.maps.stations[self.hall, self.station]

    @property
    def movers(self) -> Movers:
        """The other robots of each robot's world. M is K - 1."""
        worlds, robots = self.shape

        def of_others(value: Tensor) -> Tensor:
            return value.view(worlds, robots, -1)[:, self._others].flatten(0, 1)

        speed = self._velocity[:, :2].norm(dim=-1)
        heading = torch.stack([self.pose[:, 2].cos(), self.pose[:, 2].sin()], -1)
        return Movers(
            of_others(self.position),
            of_others(heading),
            of_others(speed)[..., 0],
            torch.full((self.num_envs, robots - 1), ROBOT_RADIUS_M, device=self.device),
        )

    def scenes(self) -> list[Scene]:
        """Return pictures of all worlds from above."""
        return [fleet_drawing.scene_of(self, world) for world in range(self.num_worlds)]
