"""A drone that flies through points in the air."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.drones.config import WAYPOINT_REACH_M, DroneWaypointsConfig
from factory.envs.tasks.drones.drone import DroneTask, Flight

ROOM_M = (4.0, 4.0)
"""Half width of the room, and its height."""
_SPREAD_M = 2.5
"""Waypoints and starts lie this far from the middle of the room, along each axis."""
_LOWEST_M = 0.8
_HIGHEST_M = 2.8


class DroneWaypoints(DroneTask):
    """Four waypoints in a room of 8 x 8 x 4 m, against the clock, at 50 Hz.

    The drone (0.75 kg, `factory.envs.vehicles.quadrotor`) has four rotors with a lag, rotor drag, and a
    rate controller on board; four steps of 5 ms make a control step. Each episode draws mass, moments of
    inertia, thrust, drag, lag of the motors, wind and latency, waypoints and start: in a box of 5 x 5 x 2 m,
    at up to 1 m/s along each axis, tilted by up to 17 degrees about each.

    Action (num_envs, 4) in [-1, 1]: thrust from 0 to twice the weight, body rates about x and y / 6 rad/s and
    z / 3 rad/s; with `action=rotors` the thrust of each rotor, from 0 to twice a quarter of the weight.
    `policy` observation (num_envs, 27), with sensor noise, in the body's frame: direction of gravity 3, body
    rates 3 [rad/s], velocity 3 [m/s], way to the waypoint and to the one after it 6 [m], the last three
    actions 12. `critic` (num_envs, 38), exact: the same, wind 3 [m/s], factors on mass, inertia and thrust,
    drag [1/s], lag of the motors [s], latency [s], remaining shares of waypoints and time.

    Reward terms: progress towards the waypoint [m], a waypoint passed within 0.3 m, failure, squared
    body rates, jumps of the action, time. Outcomes: `success`, all waypoints passed; `crash`, on the ground
    or spinning faster than 35 rad/s; `out_of_bounds`, through walls or ceiling; `timeout`, after 10 s.
    Episode metrics: `flight_time_s` of successes, `path_m`, `targets_passed`. Reference level: 98 % success,
    faster than the baseline `cascade` at its best speed, which knows state, draws and waypoints exactly.
    """

    config = DroneWaypointsConfig

    def _setup(self) -> None:
        super()._setup()
        self._low_m = torch.tensor([-_SPREAD_M, -_SPREAD_M, _LOWEST_M], device=self.device)
        self._high_m = torch.tensor([_SPREAD_M, _SPREAD_M, _HIGHEST_M], device=self.device)

    def _draw_course(self, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = torch.lerp(self._low_m, self._high_m, share)
        place = points[:, 0]
        way = points[:, 1] - place
        return points[:, 1:], place, torch.atan2(way[:, 1], way[:, 0])

    def _watch(self, before: Tensor, position: Tensor) -> Flight:
        # The distance from a waypoint to the way of one step.
        way = position - before
        offset = self.target() - before
        along = (offset * way).sum(0) / way.square().sum(0).clamp(min=1e-12)
        nearest = (offset - along.clamp(0.0, 1.0) * way).norm(dim=0)
        return Flight(passed=nearest < WAYPOINT_REACH_M, crashed=self._no_worlds, missed=self._no_worlds)

    def _is_outside(self, position: Tensor) -> Tensor:
        half_m, height_m = ROOM_M
        return (position[:2].abs().amax(0) > half_m) | (position[2] > height_m)

    def _view(self, position: Tensor, target: Tensor, following: Tensor) -> list[Tensor]:
        return [target - position, following - position]

    def aim(self) -> Tensor:
        """Return the waypoint. Shape: (3, N) [m]."""
        return self.target()
