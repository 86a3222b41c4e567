"""A racing car on closed tracks.

Sizes: N worlds, K points of the preview, H remembered actions.
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
from factory.envs.tasks.cars.closed_tracks import NUM_POINTS, TrackPlace, draw_tracks
from factory.envs.tasks.cars.track_config import CarTrackConfig
from factory.envs.tasks.cars.track_scene import TrackPainter
from factory.envs.terms.ranges import between
from factory.envs.terms.symmetry import Mirror
from factory.envs.vehicles.latency import delayed
from factory.envs.vehicles.single_track import CarBody, CarConditions, CarState, step_car

SUBSTEP_S = 0.01
NUM_SUBSTEPS = 5
PREVIEW_M = (0.4, 0.9, 1.5, 2.2, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0)
"""Distances along the centre line at which the car sees it [m]."""
_HISTORY = 3
"""H: actions that may be on their way to the car."""
_START_M_PER_S = 2.0
"""Largest speed at the start."""
_START_ASIDE = 0.3
"""Largest distance from the centre line at the start, as a share of the half width."""
_START_YAW_RAD = 0.2
_NOISE = (0.05, 0.05, 0.05, 0.01, 0.3, 0.3, 0.02, 0.01, 0.0, 0.0)
"""Standard deviations of the car's own observations, see `CarTrack`, the actions and the preview left out."""
_PREVIEW_NOISE_M = 0.02


class CarTrack(PlanView, EpisodeEnv):
    """One lap against the clock with a 1:10 racing car, at 20 Hz, on closed tracks of 55 to 75 m.

    The car is a dynamic single-track model with saturating tyres (`factory.envs.vehicles.single_track`), five
    steps of 10 ms to a control step. Each episode draws friction, cornering stiffness, lag and offset of the
    steering, and latency; the car starts anywhere on a track, at up to 2 m/s. Trainings meet the tracks of
    `split=train`, evaluations those of `split=test`.

    Action (num_envs, 2) in [-1, 1]: steering angle / 0.4189 rad, acceleration / 9.51 m/s^2; negative brakes,
    there is no reverse. `policy` observation (num_envs, 36), with sensor noise: forward and lateral velocity
    [m/s], yaw rate [rad/s], steering angle [rad], forward and lateral acceleration [m/s^2], distance from the
    centre line [m], sine and cosine of the angle to it, half width of the track [m]; the last three actions,
    6; the centre line at 10 distances up to 10 m ahead, in the car's frame, 20 [m]. `critic` (num_envs, 43),
    exact: the same, friction, stiffness, steering lag [s] and offset [rad], latency [s], remaining share
    of the lap, and of the time.

    Reward terms: progress along the centre line [m], a finished lap, leaving the track, jumps of the
    action. Outcomes: `success`, a clean lap past the starting point; `off_track`, a corner of the car left
    the track, or the car stood across it; `timeout`, after 30 s. Episode metric: `lap_time_s` of clean laps.
    Reference level: 97 % clean laps on the 64 test tracks, and a median lap 15 % shorter than that of the
    baseline `pure_pursuit` at its best share of friction.
    """

    config = CarTrackConfig
    step_dt_s = SUBSTEP_S * NUM_SUBSTEPS
    outcomes = ("success", "off_track")
    episode_metrics = ("lap_time_s",)
    reward_terms = ("progress", "lap", "off_track", "action_rate")
    persistent = ("car", "track", "line", "driven", "actions", "drawn")

    cfg: CarTrackConfig

    def _setup(self) -> None:
        device = self.device
        rows = self.num_envs
        self.body = CarBody()
        self.tracks = draw_tracks(self.cfg.split, self.cfg.num_tracks).to(device)
        self.track = torch.zeros(rows, dtype=torch.int64, device=device)
        self.line = torch.zeros(rows, len(TrackPlace._fields), device=device)
        self.driven = torch.zeros(rows, device=device)
        # A row for each world, so that checkpoints can be cut into worlds.
        self.car = torch.zeros(rows, len(CarState._fields), device=device)
        self.drawn = torch.zeros(rows, len(CarConditions._fields) + 1, device=device)
        self.actions = torch.zeros(rows, 2 * _HISTORY, device=device)
        self.preview_m = torch.tensor(PREVIEW_M, device=device)
        noise = torch.tensor((*_NOISE, *[0.0] * 2 * _HISTORY, *[_PREVIEW_NOISE_M] * 2 * len(PREVIEW_M)))
        self._noise = noise.to(device) * self.cfg.randomization.observation_noise
        self._limits = torch.tensor((self.body.steering_rad, self.body.acceleration_m_per_s2), device=device)
        weights = self.cfg.rewards
        self._weights = torch.tensor([getattr(weights, name) for name in self.reward_terms], device=device)
        # What earlier episodes of a world were worth, for pictures alone.
        self.tally = torch.zeros(rows, 2, device=device)
        self.last_lap_s = torch.zeros(rows, device=device)
        self.last_was_lap = torch.zeros(rows, dtype=torch.bool, device=device)
        self._painter = TrackPainter(self)

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    @property
    def state(self) -> CarState:
        """State of the cars."""
        return CarState(*self.car.unbind(-1))

    @property
    def conditions(self) -> CarConditions:
        """Values drawn for this episode."""
        return CarConditions(*self.drawn.unbind(-1)[:-1])

    @property
    def latency_s(self) -> Tensor:
        """Latency of this episode. Shape: (N,) [s]."""
        return self.drawn[:, -1]

    @property
    def place(self) -> TrackPlace:
        """Places of the cars along their tracks."""
        return TrackPlace(*self.line.unbind(-1))

    # Episode.

    def _reset_envs(self, mask: Tensor) -> None:
        share = self.uniform(0.0, 1.0, 10)
        number, place, aside, yaw, speed = share[:, :5].unbind(-1)
        track = (number * self.tracks.num_tracks).long().clamp(max=self.tracks.num_tracks - 1)
        row = track * NUM_POINTS + (place * NUM_POINTS).long().clamp(max=NUM_POINTS - 1)
        x, y, forward_x, forward_y = self.tracks.line.index_select(0, row).unbind(-1)
        aside = _START_ASIDE * self.tracks.half_width[track] * (2.0 * aside - 1.0)
        car = torch.zeros_like(self.car)
        start = CarState(*car.unbind(-1))
        start.x.copy_(x - forward_y * aside)
        start.y.copy_(y + forward_x * aside)
        start.yaw.copy_(torch.atan2(forward_y, forward_x) + _START_YAW_RAD * (2.0 * yaw - 1.0))
        start.forward.copy_(_START_M_PER_S * speed)
        line = torch.stack([place * self.tracks.length[track], aside, forward_x, forward_y], -1)

        ranges = self.cfg.randomization
        drawn = torch.stack(
            [
                between(ranges.friction, share[:, 5]),
                between(ranges.stiffness, share[:, 6]),
                between(ranges.steering_lag_s, share[:, 7]),
                between(ranges.steering_offset_rad, share[:, 8]),
                between(ranges.latency_s, share[:, 9]),
            ],
            -1,
        )
        rows = mask[:, None]
        self.car.copy_(torch.where(rows, car, self.car))
        self.drawn.copy_(torch.where(rows, drawn, self.drawn))
        self.track.copy_(torch.where(mask, track, self.track))
        self.line.copy_(torch.where(rows, line, self.line))
        self.driven.masked_fill_(mask, 0.0)
        self.actions.masked_fill_(rows, 0.0)

    def _advance(self, action: Tensor) -> None:
        action = self.native_actions(action)
        self.actions.copy_(torch.cat([action, self.actions[:, :-2]], -1))
        history = self.actions.view(-1, _HISTORY, 2) * self._limits
        delay = (self.latency_s / SUBSTEP_S).round().long()
        conditions = self.conditions
        state = self.state
        for steering, acceleration in delayed(history, delay, num_substeps=NUM_SUBSTEPS).transpose(1, 2):
            state = step_car(
                state, steering, acceleration, body=self.body, conditions=conditions, dt_s=SUBSTEP_S
            )
        self.car.copy_(torch.stack(state, -1))

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        state = self.state
        length = self.tracks.length[self.track]
        before = self.place.along
        # One step of Newton's method is exact enough from this guess, see `locate`.
        guess = before + state.forward * self.step_dt_s
        place = self.tracks.locate(self.track, state.x, state.y, guess=guess)
        half = 0.5 * length
        # The shorter way round, as the first point of a track lies on both sides of its last.
        progress = (place.along - before + half).remainder(length) - half
        self.line.copy_(torch.stack(place, -1))
        self.driven.add_(progress)

        off_track = self._is_off_track(state, place)
        # A lap ends at the starting point, wherever on the track that was.
        lap = (self.driven >= length) & ~off_track
        change = (self.actions[:, :2] - self.actions[:, 2:4]).square().sum(-1)
        events = [progress, lap.float(), off_track.float(), change]
        terms = torch.stack(events, -1) * self._weights
        lap_s = self.episode_steps * self.step_dt_s
        self._remember(lap, off_track, lap_s)
        info = {
            "reward_terms": terms,
            "outcome": off_track.long(),
            "episode_metrics": {"lap_time_s": lap_s.masked_fill(~lap, math.nan)},
        }
        return terms.sum(-1), lap | off_track, info

    def _is_off_track(self, state: CarState, place: TrackPlace) -> Tensor:
        """Return True where a corner of the car is beyond an edge, or the car stands across the track."""
        cosine, sine = _heading(state, place)
        # Half extent of an oriented rectangle across the track.
        reach = 0.5 * (self.body.width_m * cosine.abs() + self.body.length_m * sine.abs())
        return (place.aside.abs() + reach > self.tracks.half_width[self.track]) | (cosine < 0.0)

    def _remember(self, lap: Tensor, off_track: Tensor, lap_s: Tensor) -> None:
        self.tally.add_(torch.stack([lap, off_track], -1))
        self.last_lap_s.copy_(torch.where(lap, lap_s, self.last_lap_s))
        self.last_was_lap.copy_(torch.where(lap | off_track, lap, self.last_was_lap))

    # Observation.

    def _get_observations(self) -> Observation:
        state = self.state
        place = self.place
        cosine, sine = _heading(state, place)
        own = torch.stack(
            [
                state.forward,
                state.lateral,
                state.yaw_rate,
                state.steering,
                state.forward_acceleration,
                state.lateral_acceleration,
                place.aside,
                sine,
                cosine,
                self.tracks.half_width[self.track],
            ],
            -1,
        )
        seen = torch.cat([own, self.actions, self._preview(state).flatten(1)], -1)
        length = self.tracks.length[self.track]
        left = torch.stack(
            [1.0 - self.driven / length, 1.0 - self.episode_steps / self.max_episode_steps], -1
        )
        return {
            "policy": seen + self._noise * self.normal(self._noise.numel()),
            "critic": torch.cat([seen, self.drawn, left], -1),
        }

    def _preview(self, state: CarState) -> Tensor:
        """Return points of the centre line ahead in the car's frame. Shape: (N, K, 2) [m]."""
        points = self.tracks.points(self.track, self.place.along[:, None] + self.preview_m)
        offset_x = points[..., 0] - state.x[:, None]
        offset_y = points[..., 1] - state.y[:, None]
        ahead = state.yaw.cos()[:, None]
        aside = state.yaw.sin()[:, None]
        return torch.stack([offset_x * ahead + offset_y * aside, offset_y * ahead - offset_x * aside], -1)

    # Video.

    def scenes(self) -> list[Scene]:
        """Return the worlds as they are now."""
        return self._painter.scenes()


def track_mirrors(device: torch.device) -> dict[str, Mirror]:
    """Return the mirrors of `action` and of `policy` and `critic`, for a car on a mirrored track."""
    action = Mirror.signs(-1.0, 1.0)
    own = Mirror.signs(1.0, -1.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
    actions = Mirror.concatenate(*[action] * _HISTORY)
    preview = Mirror.signs(*[1.0, -1.0] * len(PREVIEW_M))
    policy = Mirror.concatenate(own, actions, preview)
    critic = Mirror.concatenate(policy, Mirror.signs(1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0))
    mirrors = {"action": action, "policy": policy, "critic": critic}
    return {name: mirror.to(device) for name, mirror in mirrors.items()}


def _heading(state: CarState, place: TrackPlace) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the angle from the centre line to the car. Shapes: (N,)."""
    ahead = state.yaw.cos()
    aside = state.yaw.sin()
    cosine = ahead * place.forward_x + aside * place.forward_y
    sine = aside * place.forward_x - ahead * place.forward_y
    return cosine, sine
