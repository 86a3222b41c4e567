"""Navigation of a mobile robot with a lidar, without a map.

Sizes: N environments, B boxes, M movers, L lidar beams.
"""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.batch_env import BatchEnv
from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import PlanView, Scene
from factory.envs.tasks.amr import drawing, scene, table
from factory.envs.tasks.amr.config import AmrNavigateConfig
from factory.envs.tasks.amr.course import Course
from factory.envs.tasks.amr.obstacles import Boxes, Movers, gaps, is_yielding, moved

NUM_BEAMS = 64
RANGE_M = 6.0
STEP_S = 0.1
MAX_SPEED_M_PER_S = 1.0
MAX_TURN_RAD_PER_S = 1.5
ACCELERATION = (1.0, 4.0)
"""Largest changes of speed [m/s^2] and turn rate [rad/s^2]."""
ROBOT_RADIUS_M = table.ROBOT_RADIUS_MM / 1000.0
GOAL_RADIUS_M = table.GOAL_RADIUS_MM / 1000.0
LAG_STEPS = 3
"""Age of the second scan in the observation [control steps]."""
OUTCOMES = ("success", "collision_static", "collision_mover", "struck", "timeout")
"""Ends of an episode; `struck` is a collision with a mover towards which the robot did not drive."""
_MOVERS_SEEN = 4
"""Nearest movers that the critic sees."""
_AT_FAULT_M_PER_S = 0.05
"""Speed of the robot towards a mover above which a collision is its own fault."""
_NEAR_M = 0.3
"""Room around the robot below which nearness costs."""
_JUMP_M = 0.3
"""Largest credited progress of a step: a gap too narrow for a path may cut a path's length."""


class AmrNavigate(PlanView, BatchEnv):
    """A disc-shaped robot drives to a goal in a hall, at 10 Hz.

    Robot: radius 0.25 m, speed 0 to 1 m/s, turn rate up to 1.5 rad/s, accelerations up to 1 m/s^2 and
    4 rad/s^2; it cannot reverse. Executed speeds deviate by up to 5 %, drawn for every episode.
    Action (N, 2) in [-1, 1]: speed from 0 to its limit, turn rate.
    `policy` observation (N, 136): lidar of 64 beams all around from the heading to the left, now and 0.3 s ago,
    each log(range / 0.25 m), noisy and cut at 6 m; goal as the odometry has it, which drifts: distance / 10 m,
    exp(-distance / 1 m), cosine and sine of its bearing; speed [m/s] and turn rate [rad/s]; last action.
    `critic` (N, 99): exact lidar of now, exact goal, speed, turn rate, last action; length of the shortest path
    / 10 m, room around the robot [m], slip 2, drift 3; the four nearest movers, each x, y [m], velocity
    [m/s] in the robot's frame and radius [m].
    Outcomes: success within 0.3 m of the goal; collision with a box or wall, with a mover at fault (the robot
    drove towards it) or without fault; the time limit of 40 s.
    """

    config = AmrNavigateConfig
    defines_success = True
    outcomes = OUTCOMES
    reward_terms = ("progress", "goal", "collision", "nearness", "turning", "time")
    persistent = (
        "episode",
        "_goal",
        "_shortest",
        "_twist",
        "_action",
        "_last_action",
        "_slip",
        "_drift",
        "_remaining",
        "_travelled",
        "_elapsed",
        "_clearance",
        "_ranges",
        "_scans",
        "_box_numbers",
        "_mover_position",
        "_mover_heading",
        "_outcome",
        "_last_outcome",
    )

    cfg: AmrNavigateConfig

    def _load_model(self) -> mujoco.MjModel:
        self.course = Course(self.cfg.episodes, self.device)
        recipe = self.course.recipe
        return scene.load_hall(
            size_m=self.course.size_m,
            num_boxes=recipe.max_boxes,
            num_movers=recipe.movers,
            robot_radius_m=ROBOT_RADIUS_M,
            step_s=STEP_S,
        )

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    def _setup(self) -> None:
        recipe = self.course.recipe
        physics = self.physics

        def zeros(*size: int) -> Tensor:
            return torch.zeros(self.num_envs, *size, device=self.device)

        # Places in the model: mocap bodies are boxes, then movers; geoms the walls, boxes, then movers.
        first_box = physics.model.geom("box_0").id
        self._box_geoms = slice(first_box, first_box + recipe.max_boxes)
        self._mover_geoms = slice(first_box + recipe.max_boxes, first_box + recipe.max_boxes + recipe.movers)
        self._mocap_pos = physics.field("mocap_pos")
        self._mocap_quat = physics.field("mocap_quat")
        self._geom_size = physics.model_field("geom_size")

        # Lidar: directions in the robot's frame, origins and directions in the hall's.
        angle = torch.arange(NUM_BEAMS, device=self.device) * (math.tau / NUM_BEAMS)
        self._beams = torch.stack([angle.cos(), angle.sin()])
        self._origins = zeros(NUM_BEAMS, 3)
        self._origins[..., 2] = scene.LIDAR_HEIGHT_M
        self._directions = zeros(NUM_BEAMS, 3)
        self._stale = self._all_worlds.clone()

        limits = torch.tensor(ACCELERATION, device=self.device)
        self._most_change = limits * STEP_S

        # State of the episodes.
        self.episode = self._first_episodes()
        self._outcome = torch.full_like(self.episode, -1)
        self._last_outcome = self._outcome.clone()
        self._goal = zeros(2)
        self._shortest = zeros()
        self._twist = zeros(2)
        self._action = zeros(2)
        self._last_action = zeros(2)
        self._slip = zeros(2)
        self._drift = zeros(3)
        self._remaining = zeros()
        self._travelled = zeros()
        self._elapsed = zeros()
        self._clearance = zeros()
        self._ranges = zeros(NUM_BEAMS)
        self._scans = zeros(LAG_STEPS + 1, NUM_BEAMS)
        self._box_numbers = zeros(recipe.max_boxes, 6)
        self.boxes = Boxes.of(self._box_numbers)
        self._mover_position = zeros(recipe.movers, 2)
        self._mover_heading = zeros(recipe.movers, 2)

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
        start = self.course.start(self.episode)
        draws = self.uniform(-1.0, 1.0, 4)

        self._write_state(start.pose, torch.zeros_like(start.pose), mask)
        self._place_obstacles(mask)
        angle = math.pi * draws[:, 2]
        drift = torch.stack([angle.cos(), angle.sin(), draws[:, 3]], -1) * self.course.recipe.drift
        remaining = self.course.path_length(self.episode, start.pose[:, None, :2])[:, 0]
        for kept, value in (
            (self._last_outcome, self._outcome),
            (self._goal, start.goal),
            (self._shortest, start.shortest),
            (self._slip, draws[:, :2] * self.course.recipe.slip),
            (self._drift, drift),
            (self._remaining, remaining),
        ):
            _put(kept, value, mask)
        # The picture of a new episode tells how the last one ended.
        for kept in (self._twist, self._action, self._last_action, self._travelled, self._elapsed):
            _put(kept, torch.zeros_like(kept), mask)
        _put(self._clearance, torch.full_like(self._clearance, RANGE_M), mask)

    def _place_obstacles(self, mask: Tensor) -> None:
        """Put boxes and movers of the worlds in `mask` (N,) where their episodes begin."""
        num_boxes = self.course.recipe.max_boxes
        _put(self._box_numbers, self.course.boxes(self.episode), mask)
        boxes = self.boxes
        movers = self.course.movers(self.episode)
        _put(self._mover_position, movers.position, mask)
        _put(self._mover_heading, movers.heading, mask)

        # The quaternion of a turn a is (cos a/2, 0, 0, sin a/2); boxes are turned by less than 180 degrees.
        cos = boxes.axis[..., 0]
        quat = torch.zeros(self.num_envs, num_boxes, 4, device=self.device)
        quat[..., 0] = (0.5 * (1.0 + cos)).clamp(min=0.0).sqrt()
        quat[..., 3] = (0.5 * (1.0 - cos)).clamp(min=0.0).sqrt()
        position = torch.full((self.num_envs, num_boxes, 3), scene.BOX_HALF_HEIGHT_M, device=self.device)
        position[..., :2] = boxes.center
        _put(self._mocap_pos[:, :num_boxes], position, mask)
        _put(self._mocap_quat[:, :num_boxes], quat, mask)
        _put(self._geom_size[:, self._box_geoms, :2], boxes.half, mask)
        _put(self._geom_size[:, self._mover_geoms, 0], movers.radius, mask)
        self._show_movers()

    def _write_state(self, qpos: Tensor, qvel: Tensor, mask: Tensor) -> None:
        super()._write_state(qpos, qvel, mask)
        self._stale |= mask

    def _show_movers(self) -> None:
        """Put the movers of the model where they are."""
        first = self.course.recipe.max_boxes
        self._mocap_pos[:, first:, :2] = self._mover_position
        self._mocap_pos[:, first:, 2] = scene.MOVER_HALF_HEIGHT_M

    # Control step.

    def _apply_action(self, action: Tensor) -> None:
        self._last_action.copy_(self._action)
        self._action.copy_(self.native_actions(action))
        speed = 0.5 * MAX_SPEED_M_PER_S * (self._action[:, :1] + 1.0)
        wanted = torch.cat([speed, MAX_TURN_RAD_PER_S * self._action[:, 1:]], -1)
        change = torch.minimum(torch.maximum(wanted - self._twist, -self._most_change), self._most_change)
        self._twist += change

        # Over the step, the robot moves along its heading in the middle of it.
        executed = self._executed_twist()
        heading = self._qpos[:, 2].float() + 0.5 * STEP_S * executed[:, 1]
        self._ctrl[:, 0] = executed[:, 0] * heading.cos()
        self._ctrl[:, 1] = executed[:, 0] * heading.sin()
        self._ctrl[:, 2] = executed[:, 1]

        # Movers see the robot where it is now, and move with it.
        after = moved(
            self.movers,
            self.boxes,
            self.position,
            size_m=self.course.size_m,
            robot_radius_m=ROBOT_RADIUS_M,
            step_s=STEP_S,
        )
        self._mover_position.copy_(after.position)
        self._mover_heading.copy_(after.heading)
        self._show_movers()

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        self._stale.fill_(True)
        position = self.position
        to_static = gaps(position[:, None], self.boxes, size_m=self.course.size_m).distance[:, 0]
        to_static = to_static - ROBOT_RADIUS_M
        to_mover, at_fault = self._nearest_mover()
        clearance = torch.minimum(to_static, to_mover)
        collided = clearance < 0.0
        reached = ((position - self._goal).norm(dim=-1) < GOAL_RADIUS_M) & ~collided

        self._elapsed += STEP_S
        self._travelled += self._executed_twist()[:, 0] * STEP_S
        self._clearance.copy_(torch.minimum(self._clearance, clearance))
        remaining = self.course.path_length(self.episode, position[:, None])[:, 0]
        terms = self._reward_terms(remaining, clearance, collided, reached)
        self._remaining.copy_(remaining)

        # Indices into `outcomes`; a later line overrules an earlier one.
        outcome = torch.full_like(self.episode, OUTCOMES.index("timeout"))
        outcome = outcome.masked_fill(reached, OUTCOMES.index("success"))
        outcome = outcome.masked_fill(to_mover < 0.0, OUTCOMES.index("struck"))
        outcome = outcome.masked_fill((to_mover < 0.0) & at_fault, OUTCOMES.index("collision_mover"))
        outcome = outcome.masked_fill(to_static < 0.0, OUTCOMES.index("collision_static"))
        self._outcome.copy_(outcome)
        info = {
            "reward_terms": terms,
            "success": reached,
            "outcome": outcome,
            "diagnostics": {"clearance": clearance, "speed": self._twist[:, 0].clone()},
            "episode_metrics": self._episode_metrics(reached),
        }
        return terms.sum(-1), collided | reached, info

    def _nearest_mover(self) -> tuple[Tensor, Tensor]:
        """Return the gap to the nearest mover [m], and where the robot drives towards it. Shapes: (N,)."""
        if not self.course.recipe.movers:
            return torch.full_like(self._elapsed, RANGE_M), self._no_worlds
        movers = self.movers
        to_mover = movers.position - self.position[:, None]
        distance = to_mover.norm(dim=-1)
        gap, nearest = (distance - movers.radius - ROBOT_RADIUS_M).min(-1, keepdim=True)
        velocity = self._qvel[:, None, :2].float()
        approach = (velocity * to_mover).sum(-1) / distance.clamp(min=1e-6)
        return gap[:, 0], approach.gather(-1, nearest)[:, 0] > _AT_FAULT_M_PER_S

    def _reward_terms(
        self, remaining: Tensor, clearance: Tensor, collided: Tensor, reached: Tensor
    ) -> Tensor:
        """Return the weighted terms, one column a name in `reward_terms`. Shape: (N, 6)."""
        w = self.cfg.rewards
        progress = (self._remaining - remaining).clamp(-_JUMP_M, _JUMP_M)
        near = (1.0 - clearance / _NEAR_M).clamp(0.0, 1.0)
        change = (self._action - self._last_action).square().sum(-1)
        terms = (
            w.progress * progress,
            w.goal * reached.float(),
            w.collision * collided.float(),
            w.nearness * near.square(),
            w.turning * change,
            w.time * torch.ones_like(near),
        )
        return torch.stack(terms, -1)

    def _episode_metrics(self, reached: Tensor) -> dict[str, Tensor]:
        """Return metrics of episodes that would end now. Shapes: (N,)."""
        fastest_s = self._shortest / MAX_SPEED_M_PER_S
        success = reached.float()
        barn_s = torch.minimum(torch.maximum(self._elapsed, 2.0 * fastest_s), 8.0 * fastest_s)
        return {
            "spl": success * self._shortest / torch.maximum(self._travelled, self._shortest),
            "sct": success * fastest_s / torch.maximum(self._elapsed, fastest_s),
            "barn_score": success * fastest_s / barn_s,
            "time_s": self._elapsed.clone(),
            "path_m": self._travelled.clone(),
            "clearance_min_m": self._clearance.clone(),
        }

    # Observation.

    def _get_observations(self) -> Observation:
        self._refresh_scans()
        scans = _log_range(self._scans[:, ::LAG_STEPS]).flatten(1)
        known = torch.cat([self._twist, self._action], -1)
        odometry = self._goal_features(self._drift * self._travelled[:, None])
        goal = self._goal_features(torch.zeros_like(self._drift))
        exact = torch.cat([_log_range(self._ranges), goal, known], -1)
        return {
            "policy": torch.cat([scans, odometry, known], -1),
            "critic": torch.cat([exact, *self._privileged()], -1),
        }

    def _refresh_scans(self) -> None:
        """Scan again in the worlds that have changed since the last scan."""
        pose = self._qpos.float()
        cos = pose[:, 2:].cos()
        sin = pose[:, 2:].sin()
        self._origins[..., :2] = pose[:, None, :2]
        self._directions[..., 0] = cos * self._beams[0] - sin * self._beams[1]
        self._directions[..., 1] = sin * self._beams[0] + cos * self._beams[1]
        hits = self.physics.rays(self._origins, self._directions, worlds=self._stale)
        # A ray that meets nothing is -1.
        seen = torch.where(hits < 0.0, RANGE_M, hits).clamp(max=RANGE_M)
        _put(self._ranges, seen, self._stale)

        recipe = self.course.recipe
        noisy = (self._ranges + recipe.range_noise_m * self.normal(NUM_BEAMS)).clamp(0.0, RANGE_M)
        if recipe.dropout:
            lost = self.uniform(0.0, 1.0, NUM_BEAMS) < recipe.dropout
            noisy = noisy.masked_fill(lost, RANGE_M)
        # Newest first; an episode begins as if the robot had stood there for long.
        shifted = torch.cat([noisy[:, None], self._scans[:, :-1]], 1)
        begins = (self._elapsed == 0.0)[:, None, None]
        _put(self._scans, torch.where(begins, noisy[:, None], shifted), self._stale)
        self._stale.fill_(False)

    def _goal_features(self, error: Tensor) -> Tensor:
        """Return distance and bearing of the goal with an error of the pose (N, 3) [m, m, rad]. Shape: (N, 4)."""
        pose = self._qpos.float() + error
        offset = self._goal - pose[:, :2]
        distance = offset.norm(dim=-1)
        bearing = torch.atan2(offset[:, 1], offset[:, 0]) - pose[:, 2]
        return torch.stack([0.1 * distance, (-distance).exp(), bearing.cos(), bearing.sin()], -1)

    def _privileged(self) -> tuple[Tensor, ...]:
        """Return further parts of the critic's observation."""
        movers = self.movers
        count = min(_MOVERS_SEEN, self.course.recipe.movers)
        heading = self._qpos[:, 2:].float()
        cos = heading.cos()
        sin = heading.sin()
        offset = movers.position - self.position[:, None]
        velocity = movers.heading * movers.speed[..., None]
        features = [
            cos * offset[..., 0] + sin * offset[..., 1],
            cos * offset[..., 1] - sin * offset[..., 0],
            cos * velocity[..., 0] + sin * velocity[..., 1],
            cos * velocity[..., 1] - sin * velocity[..., 0],
            movers.radius,
        ]
        nearest = offset.norm(dim=-1).topk(count, largest=False).indices
        seen = torch.stack(features, -1).gather(1, nearest[..., None].expand(-1, -1, len(features)))
        padding = seen.new_zeros(self.num_envs, (_MOVERS_SEEN - count) * len(features))
        room = self._ranges.amin(-1, keepdim=True) - ROBOT_RADIUS_M
        return (0.1 * self._remaining[:, None], room, self._slip, self._drift, seen.flatten(1), padding)

    # State of the worlds now.

    @property
    def pose(self) -> Tensor:
        """Position and heading of the robot. Shape: (N, 3) [m, m, rad]."""
        return self._qpos.float()

    @property
    def position(self) -> Tensor:
        """Position of the robot. Shape: (N, 2) [m]."""
        return self._qpos[:, :2].float()

    @property
    def movers(self) -> Movers:
        """Movers as they are now."""
        start = self.course.movers(self.episode)
        return start._replace(position=self._mover_position, heading=self._mover_heading)

    @property
    def goal(self) -> Tensor:
        """Place of the goal. Shape: (N, 2) [m]."""
        return self._goal

    @property
    def command(self) -> Tensor:
        """Speed and turn rate that the robot has been told. Shape: (N, 2) [m/s, rad/s]."""
        return self._twist

    @property
    def scan(self) -> Tensor:
        """Ranges of the newest scan as the policy has them. Shape: (N, L) [m]."""
        return self._scans[:, 0]

    @property
    def yielding(self) -> Tensor:
        """Movers that wait for the robot. Shape: (N, M) bool."""
        return is_yielding(self.movers, self.position, robot_radius_m=ROBOT_RADIUS_M)

    @property
    def elapsed_s(self) -> Tensor:
        """Time since the episode began. Shape: (N,) [s]."""
        return self._elapsed

    @property
    def last_outcome(self) -> Tensor:
        """Outcome of the previous episode, an index into `outcomes`; -1 for none. Shape: (N,)."""
        return self._last_outcome

    def captions(self) -> list[str]:
        """Return time, speeds and the end of the episode before."""
        rows = zip(self._elapsed.tolist(), self._twist.tolist(), self._last_outcome.tolist(), strict=True)
        lines = []
        for time_s, (speed, turn_rate), last in rows:
            line = f"{time_s:4.1f} s   {speed:.2f} m/s  {turn_rate:+.2f} rad/s"
            if last >= 0:
                line += f"   last: {OUTCOMES[last].replace('_', ' ')}"
            lines.append(line)
        return lines

    def _executed_twist(self) -> Tensor:
        """Return speed and turn rate with the episode's slip. Shape: (N, 2)."""
        return self._twist * (1.0 + self._slip)

    def scenes(self) -> list[Scene]:
        """Return pictures of all worlds from above."""
        return [drawing.scene_of(self, world) for world in range(self.num_envs)]


def _put(kept: Tensor, value: Tensor, mask: Tensor) -> None:
    """Write the rows of `value` in `mask` (N,) into `kept`."""
    rows = mask.view(-1, *[1] * (kept.dim() - 1))
    kept.copy_(torch.where(rows, value.to(kept.dtype), kept))


def _log_range(scan: Tensor) -> Tensor:
    """Return log(range / robot's radius): a centimetre counts more, the closer it is."""
    return (scan.clamp(min=0.1) / ROBOT_RADIUS_M).log()
