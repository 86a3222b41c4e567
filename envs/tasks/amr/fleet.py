"""A fleet of mobile robots in one hall, each a row with an episode of its own.

Sizes: N rows, W worlds of K robots, S stations, L lidar beams.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from factory.envs.rendering.plan_view import Scene
from factory.envs.tasks.amr import fleet_drawing
from factory.envs.tasks.amr.features import route_direction, route_features
from factory.envs.tasks.amr.fleet_config import AmrFleetConfig
from factory.envs.tasks.amr.fleet_maps import NUM_STATIONS, SIZE_M, fleet_maps
from factory.envs.tasks.amr.lidar import put
from factory.envs.tasks.amr.mobile_robots import ALL, MobileRobots, Rows
from factory.envs.tasks.amr.motion import velocity
from factory.envs.tasks.amr.obstacles import Boxes, Movers
from factory.envs.tasks.amr.raycast import cast_rays
from factory.envs.tasks.amr.robot import ROBOT_RADIUS_M, STEP_S
from factory.envs.tasks.amr.table import SETS
from factory.kernels.scans import Obstacles

_SHORTEST_M = 3.0
"""Least length of the path to a goal."""
_FREE_M = 1.0
"""Distance of other robots from a station where a robot may start."""
_LOOKAHEAD_M = 0.5
_FAR_M = 1e3


class AmrFleet(MobileRobots):
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
    persistent = (*MobileRobots.persistent, "pose", "station", "_velocity", "ended_at")

    cfg: AmrFleetConfig
    size_m = SIZE_M
    recipe = SETS["train"]

    def _setup(self) -> None:
        cfg = self.cfg
        device = self.device
        self.shape = (self.num_worlds, cfg.agents_per_world)
        self.maps = fleet_maps(cfg.maps, cfg.num_maps, device)
        first = self.shard.rows(self.num_worlds).start
        world = first + torch.arange(self.num_worlds, device=device)
        self.hall = (world % cfg.num_maps).repeat_interleave(cfg.agents_per_world)
        self.boxes = Boxes.of(self.maps.boxes[self.hall])
        self._solids = self._solids_of(self.boxes)

        # The other robots of each robot's world, and the stations from which each of them may start: no two
        # share one, so that robots that start together do not meet.
        robot = torch.arange(cfg.agents_per_world, device=device)
        others = torch.arange(cfg.agents_per_world - 1, device=device).expand(cfg.agents_per_world, -1)
        self._others = others + (others >= robot[:, None])
        per_robot = NUM_STATIONS // cfg.agents_per_world
        starts = robot[:, None] + cfg.agents_per_world * torch.arange(per_robot, device=device)
        self._starts = starts.repeat(self.num_worlds, 1)

        self._angles = torch.arange(32, device=device) * (math.tau / 32)
        self._open_robots(self._cast_rays)
        self._pose = torch.zeros(self.num_envs, 3, device=device)
        self.station = torch.zeros(self.num_envs, dtype=torch.int64, device=device)
        self._velocity = torch.zeros(self.num_envs, 3, device=device)
        self.ended_at = torch.zeros(self.num_envs, 2, device=device)

    def _solids_of(self, boxes: Boxes) -> Obstacles:
        """Return the boxes and the other robots as the compiled scan takes them."""
        num_boxes = boxes.center.shape[1]
        num_solids = num_boxes + self.cfg.agents_per_world - 1
        numbers = torch.zeros(self.num_envs, num_solids, 10, dtype=torch.float64, device=self.device)
        position, quaternion, size = numbers.split((3, 4, 3), -1)
        position[:, :num_boxes, :2] = boxes.center
        quaternion[:, :num_boxes] = boxes.quaternions()
        size[:, :num_boxes, :2] = boxes.half
        size[:, num_boxes:, 0] = ROBOT_RADIUS_M
        return Obstacles(position, quaternion, size, num_boxes, self.size_m)

    # Episode start.

    def _reset_envs(self, mask: Tensor) -> None:
        start, draws = self._free_station(mask)
        way = self.maps.between[self.hall, start]
        # One of the stations that are far enough.
        station = (self.uniform(0.0, 1.0, NUM_STATIONS) + (way >= _SHORTEST_M)).argmax(-1)
        shortest = way.gather(1, station[:, None])[:, 0]
        place = self.maps.stations[self.hall, start]
        pose = torch.cat([place, math.pi * draws[:, :1]], -1)
        put(self.ended_at, self.position, mask)
        put(self._pose, pose, mask)
        put(self._velocity, torch.zeros_like(self._velocity), mask)
        put(self.station, station, mask)
        self._begin(mask, shortest=shortest, remaining=shortest, slip=draws[:, 3:], drift=draws[:, 1:3])
        # A robot that starts shows in the scans of all others from their next step on.
        self.lidar.stale |= mask

    def _free_station(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return stations for robots that start, and further draws from U(-1, 1). Shapes: (N,), (N, 5)."""
        draws = self.uniform(-1.0, 1.0, 5 + self._starts.shape[1])
        places = self.maps.stations[self.hall[:, None], self._starts]
        # Robots that leave are not in the way.
        position = self.position.masked_fill(mask[:, None], _FAR_M)
        around = position.view(*self.shape, 2).repeat_interleave(self.shape[1], 0)
        room = (places[:, :, None] - around[:, None]).norm(dim=-1).amin(-1)
        # Any of the free ones; where there is none, the one with most room.
        score = torch.where(room > _FREE_M, _FREE_M + 1.0 + draws[:, 5:], room)
        best = score.argmax(-1, keepdim=True)
        return self._starts.gather(1, best)[:, 0], draws[:, :5]

    # Control step.

    def _advance(self, action: Tensor) -> None:
        self._command(action)
        self._velocity.copy_(velocity(self.pose[:, 2], self._executed_twist(), step_s=STEP_S))
        self._pose.add_(self._velocity, alpha=STEP_S)

    # Observation.

    def _guide(self, odometry: Tensor, rows: Rows) -> Tensor:
        # The planner believes the odometry.
        position = odometry[:, :2]
        path_length = partial(self._path_length, rows=rows)
        direction = route_direction(
            path_length, position, self.goal[rows], angles=self._angles, lookahead_m=_LOOKAHEAD_M
        )
        return route_features(path_length(position[:, None])[:, 0], direction - odometry[:, 2])

    def _cast_rays(self, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
        return cast_rays(origin, direction, boxes=self.boxes, discs=self.movers, size_m=SIZE_M)

    def _obstacles(self) -> Obstacles:
        self._solids.position[:, self._solids.num_boxes :, :2] = self.movers.position
        return self._solids

    def _path_length(self, points: Tensor, rows: Rows = ALL) -> Tensor:
        hall = self.hall[rows]
        return self.maps.path_length(hall, self.station[rows], points, compiled=self._uses_kernels)

    # State of the worlds now.

    @property
    def pose(self) -> Tensor:
        """Position and heading of the robots. Shape: (N, 3) [m, m, rad]."""
        return self._pose

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

    def _velocity_now(self) -> Tensor:
        return self._velocity[:, :2]

    def scenes(self) -> list[Scene]:
        """Return pictures of all worlds from above."""
        return [fleet_drawing.scene_of(self, world) for world in range(self.num_worlds)]
