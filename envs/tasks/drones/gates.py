"""A drone that races through gates.

Sizes: N worlds, K gates.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from factory.envs.tasks.drones.config import GATE_FRAME_M, GATE_INNER_M, DroneGatesConfig
from factory.envs.tasks.drones.drone import DroneTask, Flight
from factory.envs.tasks.drones.scene import GatePainter
from factory.envs.terms.ranges import between

CEILING_M = 4.0
FARTHEST_M = 7.0
"""Distance from its gate at which a drone has left the course."""
_LEG_M = (2.5, 4.0)
"""Distance between gates, and of the first one from the start."""
_TURN_RAD = math.radians(50.0)
"""Largest change of the direction from one leg to the next."""
_TWIST_RAD = math.radians(25.0)
"""Largest angle between a gate's axis and the leg that leads to it."""
_HEIGHT_M = (1.0, 2.2)
_NARROWER = 0.98
_WIDER = 1.05
"""Factors on a world's openings after a gate that was passed and after a failure. They hold their width where
seven of ten gates are passed, and narrow to that of the task where more are."""


class _Crossing(NamedTuple):
    """Passage of drones by all gates within a step. Shapes: (K, N)."""

    aside: Tensor
    """Largest coordinate in the gate's plane, from its middle, where the drone crossed it or is now [m]."""
    clearance: Tensor
    """Distance of the drone's middle from the frame [m]."""
    forward: Tensor
    """True where the drone crossed the gate's plane in the direction of the race, bool."""


class DroneGates(DroneTask):
    """Five gates to race through in order, without touching a frame, at 50 Hz.

    Drone, actions, draws and start are those of `DroneWaypoints`; the start is 2.5 to 4 m before the first
    gate. Openings are 0.8 m wide and high, frames 0.15 m. Legs between gates are 2.5 to 4 m long and
    turn by up to 50 degrees, gates are twisted against them by up to 25 degrees, and stand 1 to 2.2 m high.
    The policy's places of gates are wrong by up to 5 cm along each axis, drawn for every episode. Training
    begins with openings of 2.4 m, which every world narrows as its drone passes them; evaluations have 0.8 m.

    `policy` observation (num_envs, 33): that of `DroneWaypoints` with the way to the middle of the gate and
    its axis 6, and those of the gate after it 6, in place of the waypoints. `critic` (num_envs, 47), exact:
    the same, the error of the gate's place 3 [m], and what the critic of `DroneWaypoints` sees further.

    Reward terms are those of `DroneWaypoints`, but progress faster than 3.5 m/s counts against the drone.
    Outcomes: `success`, all gates passed; `crash`, a sphere of 0.16 m around the drone touched a frame or the
    ground, or the drone spins faster than 35 rad/s; `out_of_bounds`, 7 m from the gate or 4 m high;
    `missed_gate`, flown past beside the frame; `timeout`, after 15 s. Episode metrics: those of
    `DroneWaypoints`, and `clearance_m`, the smallest distance of the sphere from any frame. Reference level:
    90 % success, faster than the baseline `cascade` at its best.
    """

    config = DroneGatesConfig
    outcomes = (*DroneTask.outcomes, "missed_gate")
    episode_metrics = (*DroneTask.episode_metrics, "clearance_m")
    persistent = (*DroneTask.persistent, "clearance_m", "inner_m")
    target_size = 8
    """Place 3, cosine and sine of the axis' direction, error of the place as the policy knows it 3."""
    num_course_draws = 7
    target_noise = (*[0.02] * 3, *[0.01] * 3)
    num_secrets = 1
    painter = GatePainter

    cfg: DroneGatesConfig

    def _setup(self) -> None:
        super()._setup()
        self.clearance_m = torch.zeros(self.num_envs, device=self.device)
        self.inner_m = torch.full_like(self.clearance_m, self.cfg.widest_inner_m)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all worlds, or those in a mask; a reset of all begins the curriculum anew."""
        if not options or options.get("reset_mask") is None:
            self.inner_m.fill_(self.cfg.widest_inner_m)
        return super().reset(seed=seed, options=options)

    def _reset_envs(self, mask: Tensor) -> None:
        super()._reset_envs(mask)
        self.clearance_m.masked_fill_(mask, math.inf)

    def _draw_course(self, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centred = 2.0 * share - 1.0
        # The first row is the start: its turn is the direction of the first leg.
        first = math.pi * centred[:, :1, 0]
        turns = _TURN_RAD * centred[:, 2:, 0]
        # Each leg turns from the one before it, so directions and places are running sums.
        heading = torch.cat([first, turns], 1).cumsum(1)
        legs = between(_LEG_M, share[:, 1:, 1])
        x = (legs * heading.cos()).cumsum(1)
        y = (legs * heading.sin()).cumsum(1)
        z = between(_HEIGHT_M, share[..., 2])
        axis = heading + _TWIST_RAD * centred[:, 1:, 3]
        gates = torch.stack([x, y, z[:, 1:], axis.cos(), axis.sin()], -1)
        errors = self.cfg.gate_error_m * centred[:, 1:, 4:]
        start = torch.stack([torch.zeros_like(first[:, 0]), torch.zeros_like(first[:, 0]), z[:, 0]], -1)
        return torch.cat([gates, errors], -1), start, heading[:, 0]

    def _watch(self, before: Tensor, position: Tensor) -> Flight:
        crossing = self._cross(before, position)
        number = self.passed.clamp(max=self.cfg.num_targets - 1)[None]
        aside = crossing.aside.gather(0, number)[0]
        forward = crossing.forward.gather(0, number)[0]
        clearance = crossing.clearance.amin(0) - self.airframe.radius_m
        self.clearance_m.copy_(torch.minimum(self.clearance_m, clearance))
        crashed = clearance < 0.0
        return Flight(
            passed=forward & (aside < self.inner_m) & ~crashed,
            crashed=crashed,
            # Between opening and outer edge is the frame: that is a crash.
            missed=forward & (aside > self.inner_m + GATE_FRAME_M),
        )

    def _cross(self, before: Tensor, position: Tensor) -> _Crossing:
        """Return how drones passed by all gates on the way between two positions. Shapes: (3, N) [m]."""
        x, y, z, cosine, sine = self.course[:, :, :5].permute(2, 1, 0).contiguous().unbind(0)

        def coordinates(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            offset_x = point[0] - x
            offset_y = point[1] - y
            along = offset_x * cosine + offset_y * sine
            return along, offset_y * cosine - offset_x * sine, point[2] - z

        along_before, side_before, rise_before = coordinates(before)
        along, side, rise = coordinates(position)
        crossed = (along_before < 0.0) != (along < 0.0)
        # Where the way crosses a gate's plane, or its end.
        share = torch.where(crossed, along_before / (along_before - along), 1.0)
        side = torch.lerp(side_before, side, share).abs()
        rise = torch.lerp(rise_before, rise, share).abs()
        aside = torch.maximum(side, rise)
        # Distance in the plane to a square ring: within the opening, in the frame, or beyond it.
        outer_m = self.inner_m + GATE_FRAME_M
        beyond = torch.hypot((side - outer_m).clamp(min=0.0), (rise - outer_m).clamp(min=0.0))
        in_plane = torch.where(aside < self.inner_m, self.inner_m - aside, beyond)
        # A drone that crossed the plane was in it for a moment.
        off_plane = along.abs().masked_fill(crossed, 0.0)
        return _Crossing(
            aside=aside,
            clearance=torch.hypot(in_plane, off_plane),
            forward=crossed & (along_before < 0.0),
        )

    def _is_outside(self, position: Tensor) -> Tensor:
        distance = (self.target()[:3] - position).norm(dim=0)
        return (distance > FARTHEST_M) | (position[2] > CEILING_M)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        passed = self.passed.clone()
        reward, ended, info = super()._get_rewards_and_dones()
        is_passed = self.passed > passed
        failed = ended & (self.passed < self.cfg.num_targets)
        change = torch.where(is_passed, _NARROWER, 1.0) * torch.where(failed, _WIDER, 1.0)
        self.inner_m.mul_(change).clamp_(GATE_INNER_M, self.cfg.widest_inner_m)
        info["diagnostics"] = {"inner_m": self.inner_m.clone()}
        info["episode_metrics"]["clearance_m"] = self.clearance_m.clone()
        return reward, ended, info

    def _credited(self, progress: Tensor) -> Tensor:
        # Beyond the pace, each metre counts against the drone: it would fly too fast to hit the openings.
        pace_m = self.cfg.rewards.pace_m_per_s * self.step_dt_s
        return progress - 2.0 * (progress - pace_m).clamp(min=0.0)

    def _view(self, position: Tensor, target: Tensor, following: Tensor) -> list[Tensor]:
        view = []
        for gate in (target, following):
            axis = torch.cat([gate[3:5], torch.zeros_like(gate[:1])])
            # The policy sees the gate where it believes it to be.
            view += [gate[:3] + gate[5:] - position, axis]
        return view

    def _secrets(self, target: Tensor) -> list[Tensor]:
        return [target[5:]]

    def aim(self) -> Tensor:
        """Return a point on the gate's axis: behind the gate once the drone is near the axis, else before it.

        Shape: (3, N) [m].
        """
        gate = self.target()
        position = self.state.position
        axis = torch.cat([gate[3:5], torch.zeros_like(gate[:1])])
        offset = position - gate[:3]
        along = (offset * axis).sum(0)
        across = (offset - along * axis).norm(dim=0)
        # 0.6 m behind the gate for a drone on its axis; 1 m before it for one 0.8 m or more beside the axis.
        ahead = 0.6 - (2.0 * across).clamp(max=1.6)
        return gate[:3] + ahead * axis
