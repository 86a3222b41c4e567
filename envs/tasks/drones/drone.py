"""A quadrotor that passes targets in order, the part that both drone tasks share.

Sizes: N worlds, K targets, F numbers of a target, H remembered actions, V vectors.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import PlanView, Scene
from factory.envs.tasks.drones.config import DroneConfig
from factory.envs.tasks.drones.scene import DronePainter
from factory.envs.terms.ranges import between
from factory.envs.terms.symmetry import Mirror
from factory.envs.vehicles.latency import delayed
from factory.envs.vehicles.quadrotor import (
    Quadrotor,
    QuadrotorBody,
    QuadrotorConditions,
    QuadrotorState,
    rotation,
    to_body,
)

SUBSTEP_S = 0.005
NUM_SUBSTEPS = 4
RATE_LIMITS = (6.0, 6.0, 3.0)
"""Largest commanded angular velocities about x, y and z [rad/s]."""
SPINNING_RAD_PER_S = 35.0
"""Range of a gyroscope, beyond which nothing on board knows the attitude: the drone is lost."""
_HISTORY = 3
"""H: actions that may be on their way to the drone."""
_START_M_PER_S = 1.0
_START_TILT = 0.15
"""Largest speed and largest vector part of the attitude's quaternion at the start, along each axis."""
_STATE_SIZES = (3, 3, 4, 3, 4)
_NUM_DRAWS = 13
_NOISE = (*[0.01] * 3, *[0.05] * 3, *[0.05] * 3)
"""Standard deviations of the direction of gravity, the body rates and the velocity."""


class Flight(NamedTuple):
    """Events of a control step. Shapes: (N,) bool."""

    passed: Tensor
    """The drone passed its target."""
    crashed: Tensor
    """It touched something other than the ground."""
    missed: Tensor
    """It flew past its target."""


class DroneTask(PlanView, EpisodeEnv):
    """Quadrotors of 0.75 kg at 50 Hz, each with targets of its own that it passes one after the other.

    A subclass draws the targets, tells what happened to them, and where the world ends.
    """

    step_dt_s = SUBSTEP_S * NUM_SUBSTEPS
    outcomes: tuple[str, ...] = ("success", "crash", "out_of_bounds")
    episode_metrics: tuple[str, ...] = ("flight_time_s", "path_m", "targets_passed")
    reward_terms = ("progress", "target", "failure", "rates", "action_rate", "time")
    persistent: tuple[str, ...] = ("body", "drawn", "actions", "course", "passed", "flown_m")
    target_size = 3
    """F: numbers that describe a target; its place comes first."""
    num_course_draws = 3
    """Numbers drawn for each target."""
    target_noise: tuple[float, ...] = (0.02,) * 3
    """Standard deviations of the observation of a target."""
    num_secrets = 0
    """Vectors that the critic alone sees, besides the wind."""
    painter: type[DronePainter] = DronePainter

    cfg: DroneConfig

    def _setup(self) -> None:
        cfg = self.cfg
        device = self.device
        rows = self.num_envs
        self.airframe = QuadrotorBody()
        self.quadrotor = Quadrotor(self.airframe, device)
        # A row for each world, so that checkpoints can be cut into worlds.
        self.body = torch.zeros(rows, sum(_STATE_SIZES), device=device)
        self.drawn = torch.zeros(rows, 9, device=device)
        self.actions = torch.zeros(rows, 4 * _HISTORY, device=device)
        self.course = torch.zeros(rows, cfg.num_targets, self.target_size, device=device)
        self.passed = torch.zeros(rows, dtype=torch.int64, device=device)
        self.flown_m = torch.zeros(rows, device=device)
        self._before = torch.zeros(3, rows, device=device)
        self._rows = torch.arange(rows, device=device)
        self._rate_limits = torch.tensor(RATE_LIMITS, device=device)[:, None]
        noise = torch.tensor((*_NOISE, *self.target_noise * 2, *[0.0] * 4 * _HISTORY), device=device)
        self._noise = noise * cfg.randomization.observation_noise
        self._weights = torch.tensor(
            [getattr(cfg.rewards, name) for name in self.reward_terms], device=device
        )
        # What earlier episodes of a world were worth, for pictures alone.
        self.tally = torch.zeros(rows, 2, device=device)
        self.last_flight_s = torch.zeros(rows, device=device)
        self.last_was_success = torch.zeros(rows, dtype=torch.bool, device=device)
        self._painter = self.painter(self)

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (4,), np.float32)

    # Hooks of the tasks.

    @abstractmethod
    def _draw_course(self, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return targets (N, K, F), and the place (N, 3) [m] and heading (N,) [rad] of the start.

        Args:
            share: numbers in [0, 1]. Shape: (N, K + 1, num_course_draws).
        """

    @abstractmethod
    def _watch(self, before: Tensor, position: Tensor) -> Flight:
        """Return what happened on the way between two positions. Shapes: (3, N) [m]."""

    @abstractmethod
    def _is_outside(self, position: Tensor) -> Tensor:
        """Return True where a drone left its world. Shape: (3, N) [m] -> (N,)."""

    @abstractmethod
    def _view(self, position: Tensor, target: Tensor, following: Tensor) -> list[Tensor]:
        """Return vectors in the world's frame that show a target and the one after it to the policy.

        Shapes: (3, N) [m], (F, N), (F, N) -> (3, N) each.
        """

    def _credited(self, progress: Tensor) -> Tensor:
        """Return the progress of a step as the reward counts it. Shapes: (N,) -> (N,) [m]."""
        return progress

    def _secrets(self, target: Tensor) -> list[Tensor]:
        """Return vectors in the world's frame for the critic alone. Shapes: (F, N) -> (3, N) each."""
        return []

    @abstractmethod
    def aim(self) -> Tensor:
        """Return the point to fly to, for a controller that knows the course. Shape: (3, N) [m]."""

    # State.

    @property
    def state(self) -> QuadrotorState:
        """State of the drones, a copy."""
        return QuadrotorState(*self.body.t().contiguous().split(_STATE_SIZES))

    @property
    def conditions(self) -> QuadrotorConditions:
        """Values drawn for this episode, a copy."""
        drawn = self.drawn.t().contiguous()
        mass, inertia, thrust, drag_per_s, motor_lag_s = drawn[:5]
        return QuadrotorConditions(mass, inertia, thrust, drag_per_s, motor_lag_s, drawn[5:8])

    @property
    def latency_s(self) -> Tensor:
        """Latency of this episode. Shape: (N,) [s]."""
        return self.drawn[:, 8]

    def target(self, ahead: int = 0) -> Tensor:
        """Return the target that comes next, or the one `ahead` of it, or the last one. Shape: (F, N)."""
        number = (self.passed + ahead).clamp(max=self.cfg.num_targets - 1)
        rows = self._rows * self.cfg.num_targets + number
        return self.course.flatten(0, 1).index_select(0, rows).t()

    # Episode.

    def _reset_envs(self, mask: Tensor) -> None:
        targets = self.cfg.num_targets + 1
        # Drawn for all worlds and used where one begins, so the random stream does not depend on `mask`.
        share = self.uniform(0.0, 1.0, _NUM_DRAWS + targets * self.num_course_draws)
        own = share[:, :_NUM_DRAWS]
        course, place, heading = self._draw_course(share[:, _NUM_DRAWS:].unflatten(1, (targets, -1)))
        rows = mask[:, None]
        self.body.copy_(torch.where(rows, self._start(own, place, heading), self.body))
        self.drawn.copy_(torch.where(rows, self._draw_conditions(own), self.drawn))
        self.course.copy_(torch.where(rows[:, :, None], course, self.course))
        self.actions.masked_fill_(rows, 0.0)
        self.passed.masked_fill_(mask, 0)
        self.flown_m.masked_fill_(mask, 0.0)

    def _start(self, share: Tensor, place: Tensor, heading: Tensor) -> Tensor:
        """Return states in which rotors carry the weight of a drone as it is built. Shape: (N, 17)."""
        velocity = _START_M_PER_S * (2.0 * share[:, 8:11] - 1.0)
        tilt_x, tilt_y = (_START_TILT * (2.0 * share[:, 11:] - 1.0)).unbind(-1)
        cosine = (0.5 * heading).cos()
        sine = (0.5 * heading).sin()
        # The product of a turn about z and a small tilt (1, tilt_x, tilt_y, 0).
        attitude = torch.stack(
            [cosine, cosine * tilt_x - sine * tilt_y, cosine * tilt_y + sine * tilt_x, sine], -1
        )
        attitude = attitude / attitude.norm(dim=-1, keepdim=True)
        rates = torch.zeros_like(place)
        rotors = torch.full_like(attitude, 0.25 * self.airframe.weight_n)
        return torch.cat([place, velocity, attitude, rates, rotors], -1)

    def _draw_conditions(self, share: Tensor) -> Tensor:
        """Return values of one episode, in the order of `QuadrotorConditions`, and latency. Shape: (N, 9)."""
        ranges = self.cfg.randomization
        mass = between(ranges.mass, share[:, 0])
        wind = between(ranges.wind_m_per_s, share[:, 5])
        direction = 2.0 * math.pi * share[:, 6]
        return torch.stack(
            [
                mass,
                mass * between(ranges.inertia, share[:, 1]),
                between(ranges.thrust, share[:, 2]),
                between(ranges.drag_per_s, share[:, 3]),
                between(ranges.motor_lag_s, share[:, 4]),
                wind * direction.cos(),
                wind * direction.sin(),
                torch.zeros_like(mass),
                between(ranges.latency_s, share[:, 7]),
            ],
            -1,
        )

    def _advance(self, action: Tensor) -> None:
        action = self.native_actions(action)
        self.actions.copy_(torch.cat([action, self.actions[:, :-4]], -1))
        # In whole substeps: a delayed command may arrive in the middle of a control step.
        delay = (self.latency_s / SUBSTEP_S).round().long()
        arrived = delayed(self.actions.view(-1, _HISTORY, 4), delay, num_substeps=NUM_SUBSTEPS)
        commands = arrived.transpose(1, 2).contiguous()
        conditions = self.conditions
        state = self.state
        # Targets are passed on the way of a step, not only at its end.
        self._before.copy_(state.position)
        for command in commands.unbind(0):
            # The controller on board sees the rates of every substep, the policy those of every fourth.
            rotors = self._rotors(command, state.rates)
            state = self.quadrotor.step(state, rotors, conditions=conditions, dt_s=SUBSTEP_S)
        self.body.copy_(torch.cat(state).t())

    def _rotors(self, command: Tensor, rates: Tensor) -> Tensor:
        """Return the wanted thrust of every rotor. Shapes: (4, N), (3, N) -> (4, N) [N]."""
        # An action of zero carries the weight of the drone as it is built, in both kinds of action.
        weight_n = self.airframe.weight_n
        if self.cfg.action == "rotors":
            return 0.25 * weight_n * (1.0 + command)
        thrust = weight_n * (1.0 + command[0])
        return self.quadrotor.rotors_for(thrust, self._rate_limits * command[1:], present_rates=rates)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        state = self.state
        position = state.position
        before = self._before
        # The target before `passed` counts on: the way to the next one would look like a step back.
        place = self.target()[:3]
        progress = (place - before).norm(dim=0) - (place - position).norm(dim=0)
        self.flown_m.add_((position - before).norm(dim=0))
        flight = self._watch(before, position)
        self.passed.add_(flight.passed)

        turning = state.rates.square().sum(0)
        lost = (position[2] < self.airframe.radius_m) | (turning > SPINNING_RAD_PER_S**2)
        crashed = flight.crashed | lost
        outside = self._is_outside(position)
        failed = crashed | flight.missed | outside
        # A crash in the last step is a crash, even with all targets passed.
        finished = (self.passed >= self.cfg.num_targets) & ~failed
        # Codes of `outcomes`; an earlier one has the place before a later one, but success.
        code = torch.where(crashed, 1, torch.where(outside, 2, 3 * flight.missed))

        change = (self.actions[:, :4] - self.actions[:, 4:8]).square().sum(-1)
        # In the order of `reward_terms`.
        credit = self._credited(progress)
        events = [credit, flight.passed.float(), failed.float(), turning, change, torch.ones_like(change)]
        terms = torch.stack(events, -1) * self._weights
        flight_s = self.episode_steps * self.step_dt_s
        self._remember(finished, failed, flight_s)
        info = {
            "reward_terms": terms,
            "outcome": code,
            "episode_metrics": {
                "flight_time_s": flight_s.masked_fill(~finished, math.nan),
                "path_m": self.flown_m.clone(),
                "targets_passed": self.passed.float(),
            },
        }
        return terms.sum(-1), finished | failed, info

    def _remember(self, finished: Tensor, failed: Tensor, flight_s: Tensor) -> None:
        self.tally.add_(torch.stack([finished, failed], -1))
        self.last_flight_s.copy_(torch.where(finished, flight_s, self.last_flight_s))
        self.last_was_success.copy_(torch.where(finished | failed, finished, self.last_was_success))

    # Observation.

    def _get_observations(self) -> Observation:
        state = self.state
        target = self.target()
        shown = [state.velocity, *self._view(state.position, target, self.target(1))]
        hidden = [*self._secrets(target), self.conditions.wind]
        matrix = rotation(state.attitude)
        # All vectors in one product: first what the policy sees, then what the critic alone sees.
        vectors = to_body(torch.stack([*shown, *hidden]), matrix).flatten(0, 1)
        size = 3 * len(shown)
        # The last row of the rotation is the world's z axis in the body's frame; gravity points against it.
        own = torch.cat([-matrix[2], state.rates, vectors[:size]]).t()
        seen = torch.cat([own, self.actions], -1)
        left = torch.stack(
            [
                1.0 - self.passed / self.cfg.num_targets,
                1.0 - self.episode_steps / self.max_episode_steps,
            ],
            -1,
        )
        scalars = [self.drawn[:, :5], self.drawn[:, 8:]]
        return {
            "policy": seen + self._noise * self.normal(self._noise.numel()),
            "critic": torch.cat([seen, vectors[size:].t(), *scalars, left], -1),
        }

    # Video.

    def scenes(self) -> list[Scene]:
        """Return the worlds as they are now."""
        return self._painter.scenes()


def drone_mirrors(task: type[DroneTask], device: torch.device, *, action: str = "rates") -> dict[str, Mirror]:
    """Return the mirrors of `action` and of `policy` and `critic`, for drones in a mirrored world.

    Left and right change places: y of every vector, and the rates about x and z.
    """
    # Thrust, then body rates: a mirrored drone rolls and yaws the other way.
    command = Mirror.signs(1.0, -1.0, 1.0, -1.0)
    if action == "rotors":
        # Rotors on the left and on the right change places.
        command = Mirror(torch.tensor([1, 0, 3, 2]), torch.ones(4))
    vector = Mirror.signs(1.0, -1.0, 1.0)
    rates = Mirror.signs(-1.0, 1.0, -1.0)
    num_shown = 1 + 2 * len(task.target_noise) // 3
    policy = Mirror.concatenate(vector, rates, *[vector] * num_shown, *[command] * _HISTORY)
    hidden = [vector] * (task.num_secrets + 1)
    critic = Mirror.concatenate(policy, *hidden, Mirror.signs(*[1.0] * 8))
    mirrors = {"action": command, "policy": policy, "critic": critic}
    return {name: mirror.to(device) for name, mirror in mirrors.items()}
