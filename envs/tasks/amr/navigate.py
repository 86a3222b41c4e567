"""Navigation of a mobile robot with a lidar, without a map.

Sizes: N environments, B boxes, M movers, L lidar beams.
"""

from __future__ import annotations

from typing import Any

import mujoco
import torch
from torch import Tensor

from factory.envs.core.batch_env import BatchEnv
from factory.envs.rendering.plan_view import Scene
from factory.envs.tasks.amr import drawing, scene
from factory.envs.tasks.amr.config import AmrNavigateConfig
from factory.envs.tasks.amr.course import Course, course_of
from factory.envs.tasks.amr.features import goal_features
from factory.envs.tasks.amr.lidar import PhysicsRays, put
from factory.envs.tasks.amr.mobile_robots import ALL, MobileRobots, Rows
from factory.envs.tasks.amr.motion import velocity
from factory.envs.tasks.amr.obstacles import Boxes, Movers, is_yielding, moved
from factory.envs.tasks.amr.robot import ROBOT_RADIUS_M, STEP_S
from factory.kernels.scans import Obstacles


class AmrNavigate(MobileRobots, BatchEnv):
    """A disc-shaped robot drives to a goal in a hall, at 10 Hz.

    Robot: radius 0.25 m, speed 0 to 1 m/s, turn rate up to 1.5 rad/s, accelerations up to 1 m/s^2 and
    4 rad/s^2; it cannot reverse. Executed speeds deviate by up to 5 %, drawn for every episode.
    Action (N, 2) in [-1, 1]: speed from 0 to its limit, turn rate.
    `policy` observation (N, 136): lidar of 64 beams all around from the heading to the left, now and 0.3 s
    ago, each log(range / 0.25 m), noisy and cut at 6 m; goal as the odometry has it, which drifts:
    distance / 10 m, exp(-distance / 1 m), cosine and sine of its bearing; speed [m/s] and turn rate [rad/s];
    last action.
    `critic` (N, 99): exact lidar of now, exact goal, speed, turn rate, last action; length of the shortest
    path / 10 m, room around the robot [m], slip 2, drift 3; the four nearest movers, each x, y [m], velocity
    [m/s] in the robot's frame and radius [m].
    Outcomes: success within 0.3 m of the goal; collision with a box or wall, with a mover at fault (the robot
    drove towards it) or without fault; the time limit of 40 s.
    """

    config: type[Any] = AmrNavigateConfig
    persistent: tuple[str, ...] = (
        *MobileRobots.persistent,
        "episode",
        "goal",
        "_box_numbers",
        "_mover_position",
        "_mover_heading",
    )

    def _open_course(self) -> Course:
        """Return the episodes."""
        return course_of(self.cfg.episodes, self.device)

    def _load_model(self) -> mujoco.MjModel:
        self.course = self._open_course()
        self.size_m = self.course.size_m
        self.recipe = recipe = self.course.recipe
        return scene.load_hall(
            size_m=self.size_m,
            num_boxes=recipe.max_boxes,
            num_movers=recipe.movers,
            robot_radius_m=ROBOT_RADIUS_M,
            step_s=STEP_S,
        )

    def _setup(self) -> None:
        recipe = self.recipe
        physics = self.physics
        self._open_robots(PhysicsRays(physics))

        # Places in the model: mocap bodies are boxes, then movers; geoms the walls, boxes, then movers.
        first_box = physics.model.geom("box_0").id
        self._box_geoms = slice(first_box, first_box + recipe.max_boxes)
        self._mover_geoms = slice(first_box + recipe.max_boxes, first_box + recipe.max_boxes + recipe.movers)
        self._mocap_pos = physics.field("mocap_pos")
        self._mocap_quat = physics.field("mocap_quat")
        self._geom_size = physics.model_field("geom_size")
        last_mover = self._mover_geoms.stop
        self._solids = Obstacles(
            self._mocap_pos,
            self._mocap_quat,
            self._geom_size[:, first_box:last_mover],
            recipe.max_boxes,
            self.size_m,
        )

        def zeros(*size: int) -> Tensor:
            return torch.zeros(self.num_envs, *size, device=self.device)

        # The hall of each episode.
        self.episode = self._first_episodes()
        self._goal = zeros(2)
        self._box_numbers = zeros(recipe.max_boxes, 6)
        self.boxes = Boxes.of(self._box_numbers)
        self._mover_position = zeros(recipe.movers, 2)
        self._mover_heading = zeros(recipe.movers, 2)
        # These follow from the episode: looked up once for all its steps.
        self._mover_traits = (zeros(recipe.movers), zeros(recipe.movers))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`; later steps repeat exactly."""
        super().load_state_dict(state)
        movers = self.course.movers(self.episode)
        self._mover_traits[0].copy_(movers.speed)
        self._mover_traits[1].copy_(movers.radius)

    # Episode start.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all worlds, or those in a mask; a reset of all begins with the first episodes of a set."""
        if not options or options.get("reset_mask") is None:
            self.episode.copy_(self._first_episodes())
        return super().reset(seed=seed, options=options)

    def _first_episodes(self) -> Tensor:
        """Return a number before each world's first episode, so that a reset comes to that one."""
        world = self.shard.draw(lambda size: torch.arange(size[0], device=self.device), self.num_envs)
        return world - self.num_envs * self.shard.count

    def _reset_envs(self, mask: Tensor) -> None:
        # Training draws episodes; the fixed sets are played in order, each world its share.
        following = (self.episode + self.num_envs * self.shard.count).remainder(self.course.num_episodes)
        if self.cfg.episodes == "train":
            following = (self.uniform(0.0, 1.0) * self.course.num_episodes).long()
        self.episode.copy_(torch.where(mask, following, self.episode))
        target = mask
        rows: Rows = ALL
        if self._reads_values:
            # Few worlds begin at once, and there is much to write.
            target = mask.nonzero()[:, 0]
            rows = target
        start = self.course.start(self.episode[rows])
        draws = self.uniform(-1.0, 1.0, 4)[rows]

        put(self._qpos, start.pose, target)
        put(self._qvel, 0.0, target)
        self.lidar.stale |= mask
        self._place_obstacles(self.episode[rows], target)
        put(self._goal, start.goal, target)
        self._begin(
            target,
            shortest=start.shortest,
            remaining=self._path_length(start.pose[:, None, :2], rows)[:, 0],
            slip=draws[:, :2],
            drift=draws[:, 2:],
        )

    def _place_obstacles(self, episode: Tensor, target: Tensor) -> None:
        """Put boxes and movers where episodes begin; `target` says in which worlds, see `put`."""
        num_boxes = self.recipe.max_boxes
        numbers = self.course.boxes(episode)
        boxes = Boxes.of(numbers)
        movers = self.course.movers(episode)
        position = torch.full((len(episode), num_boxes, 3), scene.BOX_HALF_HEIGHT_M, device=self.device)
        position[..., :2] = boxes.center
        for kept, value in (
            (self._box_numbers, numbers),
            (self._mover_position, movers.position),
            (self._mover_heading, movers.heading),
            (self._mover_traits[0], movers.speed),
            (self._mover_traits[1], movers.radius),
            (self._mocap_pos[:, :num_boxes], position),
            (self._mocap_quat[:, :num_boxes], boxes.quaternions()),
            (self._geom_size[:, self._box_geoms, :2], boxes.half),
            (self._geom_size[:, self._mover_geoms, 0], movers.radius),
        ):
            put(kept, value, target)
        self._show_movers()

    def _write_state(self, qpos: Tensor, qvel: Tensor, mask: Tensor) -> None:
        super()._write_state(qpos, qvel, mask)
        self.lidar.stale |= mask

    def _show_movers(self) -> None:
        """Put the movers of the model where they are."""
        first = self.recipe.max_boxes
        self._mocap_pos[:, first:, :2] = self._mover_position
        self._mocap_pos[:, first:, 2].fill_(scene.MOVER_HALF_HEIGHT_M)

    # Control step.

    def _apply_action(self, action: Tensor) -> None:
        self._command(action)
        self._ctrl.copy_(velocity(self.pose[:, 2], self._executed_twist(), step_s=STEP_S))

        # Movers see the robot where it is now, and move with it.
        after = moved(
            self.movers,
            self.boxes,
            self.position,
            size_m=self.size_m,
            robot_radius_m=ROBOT_RADIUS_M,
            step_s=STEP_S,
            compiled=self._uses_kernels,
        )
        self._mover_position.copy_(after.position)
        self._mover_heading.copy_(after.heading)
        self._show_movers()

    # Observation.

    def _obstacles(self) -> Obstacles | None:
        # Numbers of the kernel are float64, as MuJoCo's are.
        if self.physics_name != "mujoco":
            return None
        return self._solids

    def _guide(self, odometry: Tensor, rows: Rows) -> Tensor:
        return goal_features(odometry, self.goal[rows])

    def _path_length(self, points: Tensor, rows: Rows = ALL) -> Tensor:
        return self.course.path_length(self.episode[rows], points, compiled=self._uses_kernels)

    # State of the worlds now.

    @property
    def pose(self) -> Tensor:
        """Position and heading of the robot. Shape: (N, 3) [m, m, rad]."""
        return self._qpos.float()

    @property
    def goal(self) -> Tensor:
        """Place of the goal. Shape: (N, 2) [m]."""
        return self._goal

    @property
    def movers(self) -> Movers:
        """Movers as they are now."""
        return Movers(self._mover_position, self._mover_heading, *self._mover_traits)

    def _velocity_now(self) -> Tensor:
        return self._qvel[:, :2].float()

    @property
    def yielding(self) -> Tensor:
        """Movers that wait for the robot. Shape: (N, M) bool."""
        return is_yielding(self.movers, self.position, robot_radius_m=ROBOT_RADIUS_M)

    def captions(self) -> list[str]:
        """Return time, speeds and the end of the episode before."""
        return drawing.captions(self)

    def scenes(self) -> list[Scene]:
        """Return pictures of all worlds from above."""
        return [drawing.scene_of(self, world) for world in range(self.num_envs)]
