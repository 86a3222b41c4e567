"""Docking of a mobile robot.

Sizes: N environments, L lidar beams.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import Scene
from factory.envs.tasks.amr import dock_drawing, docking
from factory.envs.tasks.amr.course import Course
from factory.envs.tasks.amr.dock_config import AmrDockConfig
from factory.envs.tasks.amr.dock_table import dock_course
from factory.envs.tasks.amr.docking import DockError, dock_error, dock_features
from factory.envs.tasks.amr.features import log_range
from factory.envs.tasks.amr.lidar import put
from factory.envs.tasks.amr.mobile_robots import Rows
from factory.envs.tasks.amr.navigate import AmrNavigate
from factory.envs.tasks.amr.robot import ROBOT_RADIUS_M

_START_ROOM_M = 0.015
"""Least room around a robot that starts on the way into the dock."""


class AmrDock(AmrNavigate):
    """The robot of `amr_navigate` drives into a dock between two guides and stops there, at 10 Hz.

    It starts at least 3 m away, with any heading, in a hall of 6.1 x 6.1 m with three boxes; the guides leave
    it 6 to 12 cm of room on either side, over a length of 0.5 to 0.9 m. It faces the wall when docked. Halls
    and starts of `test` and `validation` are in no other set. There are no movers. In `train`, a share of the
    starts lies on the way into the dock, and success begins with ten times the tolerances, which every world
    narrows as its robot docks.

    Action (N, 2) in [-1, 1]: speed from -0.25 to 0.75 m/s, turn rate up to 1.5 rad/s, limits and slip
    of `amr_navigate`.
    `policy` observation (N, 75): lidar of 64 beams, log(range / 0.25 m), with 2 cm of noise; the dock in the
    robot's frame as a sensor sees it, with noise that grows with the distance and an error that is constant
    in an episode: x and y / 3.3 m, tanh of x and y / 0.1 m, cosine and sine of its heading, tanh of the sine
    / 0.1; speed [m/s] and turn rate [rad/s]; last action.
    `critic` (N, 82): the same without noise; length of the shortest path / 10 m, room around the robot [m],
    slip 2, constant error of the sensor 3 [m, m, rad].
    Outcomes: success, at rest within 2 cm and 2 degrees of the dock's pose; collision with a guide, box or
    wall; the time limit of 40 s. Metrics: time, path and smallest gap, and at the end the distance from the
    dock's place and heading.
    """

    config = AmrDockConfig
    outcomes = ("success", "collision")
    episode_metrics = ("time_s", "path_m", "clearance_min_m", "error_m", "error_deg")
    reward_terms = docking.REWARD_TERMS
    persistent = (*AmrNavigate.persistent, "_bias", "_precision", "tolerance")
    speed_m_per_s: ClassVar[tuple[float, float]] = docking.SPEED_M_PER_S

    def _open_course(self) -> Course:
        return dock_course(self.cfg.episodes, self.device)

    def _setup(self) -> None:
        super()._setup()
        sensor = self.cfg.sensor
        at_dock = (sensor.noise_m, sensor.noise_m, sensor.noise_rad)
        growth = (sensor.noise_per_m, sensor.noise_per_m, 0.0)
        self._noise = torch.tensor([at_dock, growth], device=self.device)
        bias = (sensor.bias_m, sensor.bias_m, sensor.bias_rad)
        self._most_bias = torch.tensor(bias, device=self.device)
        self._bias = torch.zeros(self.num_envs, 3, device=self.device)
        self._precision = torch.zeros(self.num_envs, device=self.device)
        self.tolerance = torch.ones(self.num_envs, device=self.device)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all worlds, or those in a mask; a reset of all begins the curriculum anew."""
        result = super().reset(seed=seed, options=options)
        if self.cfg.episodes == "train" and (not options or options.get("reset_mask") is None):
            self.tolerance.fill_(self.cfg.widest_tolerance)
        return result

    def _reset_envs(self, mask: Tensor) -> None:
        super()._reset_envs(mask)
        if self.cfg.episodes == "train":
            self._start_on_the_way(mask)
            widest = self.cfg.widest_tolerance
            following = docking.next_tolerance(self.tolerance, self._ends_as == 0, widest=widest)
            put(self.tolerance, following, mask)
        put(self._bias, self.uniform(-1.0, 1.0, 3) * self._most_bias, mask)
        # Only the rise from here on is rewarded: a start near the dock is worth nothing by itself.
        put(self._precision, docking.precision(self.error), mask)

    def _start_on_the_way(self, mask: Tensor) -> None:
        """Move a share of the robots that begin to the dock (reverse curriculum)."""
        share = self.uniform(0.0, 1.0, 4)
        pose = docking.start_on_the_way(share[:, 1:])
        room = self._gaps(pose[:, None, :2]).distance[:, 0]
        # Where a box stands in the way, the start remains that of the table.
        is_free = room > ROBOT_RADIUS_M + _START_ROOM_M
        moved = mask & is_free & (share[:, 0] < self.cfg.curriculum_share)
        self._write_state(pose, torch.zeros_like(pose), moved)
        put(self._remaining, self._path_length(pose[:, None, :2])[:, 0], moved)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        clearance = self._room().clearance
        collided = clearance < 0.0
        error = self.error
        docked = docking.is_docked(error, self.twist[:, 0], self.tolerance) & ~collided
        reached = docking.precision(error)
        terms = docking.reward_terms(
            self.cfg.rewards,
            progress=self._progress(),
            gain=reached - self._precision,
            docked=docked,
            collided=collided,
            change=self._action - self._last_action,
        )
        self._precision.copy_(reached)
        timeout = self.outcome_names.index("timeout")
        self._ends_as.copy_(torch.where(docked, 0, torch.where(collided, 1, timeout)))
        info = {
            "reward_terms": terms,
            "outcome": self._ends_as.clone(),
            "diagnostics": {"clearance": clearance, "speed": self.twist[:, 0].clone()},
            "episode_metrics": {
                "time_s": self.elapsed_s.clone(),
                "path_m": self._travelled.clone(),
                "clearance_min_m": self._clearance.clone(),
                "error_m": error.distance,
                "error_deg": error.angle.abs() * (180.0 / math.pi),
            },
        }
        return terms.sum(-1), docked | collided, info

    def _observe(self, rows: Rows) -> Observation:
        error = dock_error(self.pose[rows])
        bias = self._bias[rows]
        seen = docking.measured(error, scale=self._noise, noise=self.normal(3)[rows], bias=bias)
        known = torch.cat([self.twist[rows], self._action[rows]], -1)
        ranges = self._ranges[rows]
        room = ranges.amin(-1, keepdim=True) - ROBOT_RADIUS_M
        policy = (log_range(self._scans[rows][:, 0]), dock_features(seen), known)
        critic = (
            log_range(ranges),
            dock_features(error),
            known,
            0.1 * self._remaining[rows][:, None],
            room,
            self._slip[rows],
            bias,
        )
        return {"policy": torch.cat(policy, -1), "critic": torch.cat(critic, -1)}

    @property
    def error(self) -> DockError:
        """Pose of the dock in the robots' frames."""
        return dock_error(self.pose)

    def captions(self) -> list[str]:
        """Return time and speeds, the distance from the docked pose, and the end of the episode before."""
        error = self.error
        rows = zip(error.distance.tolist(), error.angle.tolist(), super().captions(), strict=True)
        return [
            f"{line}\ndock {100.0 * distance:.1f} cm  {math.degrees(angle):+.1f} deg"
            for distance, angle, line in rows
        ]

    def scenes(self) -> list[Scene]:
        """Return pictures of all worlds from above."""
        return [dock_drawing.scene_of(self, world) for world in range(self.num_envs)]
