"""A passenger car that parks between others.

Sizes: N worlds, K parked cars, H remembered actions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import PlanView, Scene
from factory.envs.tasks.cars import parking_lots
from factory.envs.tasks.cars.park_config import CarParkConfig
from factory.envs.tasks.cars.park_scene import ParkPainter
from factory.envs.tasks.cars.parking_costs import cost_to_go, look_up
from factory.envs.tasks.cars.parking_lots import CAR, GOAL_Y_M, GOAL_YAW
from factory.envs.terms.ranges import between
from factory.envs.terms.symmetry import Mirror
from factory.envs.vehicles.boxes import Boxes
from factory.envs.vehicles.kinematic import RollingState, roll
from factory.envs.vehicles.latency import delayed

SUBSTEP_S = 0.05
NUM_SUBSTEPS = 2
SPEED_M_PER_S = 2.0
"""Largest commanded speed, in both directions."""
SUCCESS_M = 0.3
SUCCESS_RAD = math.radians(10.0)
SUCCESS_M_PER_S = 0.1
"""A car stands in the slot if its middle is this close, its heading so, and it is this slow."""
_HISTORY = 3
"""H: actions that may be on their way to the car."""
_FARTHEST_M = 3.0
"""Range of the sensors that measure gaps."""
_NOISE = (0.03, 0.03, 0.01, 0.01, 0.03, 0.03, 0.02, 0.01)
"""Standard deviations: goal in the car's frame, cosine, sine, place in the slot's frame, speed, steering."""
_GAP_NOISE_M = 0.03


class _Errors(NamedTuple):
    """Distance from the goal. Shapes: (N,)."""

    x: Tensor
    """Goal in the car's frame, ahead [m]."""
    y: Tensor
    """Goal in the car's frame, to the left [m]."""
    cosine: Tensor
    """Cosine of the angle between car and slot; `sine` is its sine."""
    sine: Tensor


class CarPark(PlanView, EpisodeEnv):
    """Parking nose in, at 10 Hz, in a slot of 2.5 to 3 m between cars, from an aisle of 6 to 7.5 m.

    The car (4.5 x 1.8 m, wheelbase 2.7 m) is a kinematic single-track model, two steps of 50 ms to a control
    step, with a lagging, rate-limited steering and latency, both drawn for each episode. Lots are drawn in
    advance: widths, places, headings and sizes of the four nearest parked cars, and the start; walls close
    slot and aisle. In training a share of the starts lies on the way into the slot (reverse curriculum,
    Florensa et al. 2017, arXiv:1707.05300); in evaluations every car comes along the aisle, on lots of
    `split=test`.

    Action (num_envs, 2) in [-1, 1]: steering angle / 0.6 rad, speed / 2 m/s; negative speeds drive backward.
    `policy` observation (num_envs, 28), with sensor noise: middle of the slot in the car's frame 2 [m],
    cosine and sine of the angle between car and slot, place in the slot's frame 2 [m], speed [m/s],
    steering angle [rad], the last three actions 6, widths of slot and aisle 2 [m], gaps to parked cars and
    walls up to 3 m, 8 [m], places of the two neighbours' front corners beside the slot, 4 [m]. `critic`
    (num_envs, 31), exact: the same, steering lag [s], latency [s], remaining share of the time.

    Reward terms: approach, by which the way to the goal gets shorter, as a planner knows it; parked;
    contact; turnarounds, between forward and backward; time; jumps of the action. Outcomes: `success`, the
    car stands within 0.3 m and 10 degrees; `contact`; `timeout`, after 40 s. Metrics: `parking_time_s`
    of successes, `turnarounds`, and `least_gap_m`, the smallest gap of the episode. Reference level: 88 %
    success on the 1024 test lots, at least as many as the baseline `planner`, which has the map.
    """

    config = CarParkConfig
    step_dt_s = SUBSTEP_S * NUM_SUBSTEPS
    outcomes = ("success", "contact")
    episode_metrics = ("parking_time_s", "turnarounds", "least_gap_m")
    reward_terms = ("approach", "parked", "contact", "turnaround", "time", "action_rate")
    persistent = (
        "car",
        "lot",
        "drawn",
        "actions",
        "way_left_m",
        "direction",
        "num_turnarounds",
        "least_gap_m",
    )

    cfg: CarParkConfig

    def _setup(self) -> None:
        cfg = self.cfg
        device = self.device
        rows = self.num_envs
        lots = parking_lots.draw_lots(cfg.split, cfg.num_lots, cfg.curriculum_share)
        self.lots = lots.to(device)
        self._costs = cost_to_go().to(device)
        self.lot = torch.zeros(rows, dtype=torch.int64, device=device)
        # A row for each world, so that checkpoints can be cut into worlds.
        self.car = torch.zeros(rows, len(RollingState._fields), device=device)
        self.drawn = torch.zeros(rows, 2, device=device)
        self.actions = torch.zeros(rows, 2 * _HISTORY, device=device)
        self.way_left_m = torch.zeros(rows, device=device)
        self.direction = torch.zeros(rows, device=device)
        self.num_turnarounds = torch.zeros(rows, device=device)
        self.least_gap_m = torch.zeros(rows, device=device)
        own_noise = (*_NOISE, *[0.0] * (2 * _HISTORY + 2), *[_GAP_NOISE_M] * 12)
        self._noise = torch.tensor(own_noise, device=device) * cfg.randomization.observation_noise
        self._limits = torch.tensor((CAR.steering_rad, SPEED_M_PER_S), device=device)
        self._weights = torch.tensor(
            [getattr(cfg.rewards, term) for term in self.reward_terms], device=device
        )
        # What earlier episodes of a world were worth, for pictures alone.
        self.tally = torch.zeros(rows, 2, device=device)
        self.last_was_parked = torch.zeros(rows, dtype=torch.bool, device=device)
        self._painter = ParkPainter(self)

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    @property
    def state(self) -> RollingState:
        """State of the cars."""
        return RollingState(*self.car.unbind(-1))

    @property
    def latency_s(self) -> Tensor:
        """Latency of this episode. Shape: (N,) [s]."""
        return self.drawn[:, 1]

    # Episode.

    def _reset_envs(self, mask: Tensor) -> None:
        number, lag, latency = self.uniform(0.0, 1.0, 3).unbind(-1)
        count = self.lots.slot_width.numel()
        lot = (number * count).long().clamp(max=count - 1)
        ranges = self.cfg.randomization
        drawn = [between(ranges.steering_lag_s, lag), between(ranges.latency_s, latency)]
        start = self.lots.start.index_select(0, lot)
        car = torch.cat([start, torch.zeros_like(start[:, :2])], -1)
        rows = mask[:, None]
        self.lot.copy_(torch.where(mask, lot, self.lot))
        self.drawn.copy_(torch.where(rows, torch.stack(drawn, -1), self.drawn))
        self.car.copy_(torch.where(rows, car, self.car))
        self.actions.masked_fill_(rows, 0.0)
        self.direction.masked_fill_(mask, 0.0)
        self.num_turnarounds.masked_fill_(mask, 0.0)
        self.least_gap_m.masked_fill_(mask, math.inf)
        self.way_left_m.copy_(torch.where(mask, self._way_left(), self.way_left_m))

    def _advance(self, action: Tensor) -> None:
        action = self.native_actions(action)
        self.actions.copy_(torch.cat([action, self.actions[:, :-2]], -1))
        history = self.actions.view(-1, _HISTORY, 2) * self._limits
        lag_s = self.drawn[:, 0]
        delay = (self.latency_s / SUBSTEP_S).round().long()
        state = self.state
        for steering, speed in delayed(history, delay, num_substeps=NUM_SUBSTEPS).transpose(1, 2):
            state = roll(state, steering, speed, car=CAR, steering_lag_s=lag_s, dt_s=SUBSTEP_S)
        self.car.copy_(torch.stack(state, -1))

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        state = self.state
        errors = self._errors(state)
        gap_m = self.gaps(self.body()).amin(-1)
        self.least_gap_m.copy_(torch.minimum(self.least_gap_m, gap_m))
        contact = gap_m < 0.0
        is_close = errors.x.square() + errors.y.square() < SUCCESS_M**2
        is_aligned = errors.cosine > math.cos(SUCCESS_RAD)
        # Contact overrules success: a car may touch something in the very step in which it comes to rest.
        parked = is_close & is_aligned & (state.speed.abs() < SUCCESS_M_PER_S) & ~contact

        way_left_m = self._way_left()
        # A potential: what is gained on the way is lost again on the way back, so circles earn nothing.
        approach = self.way_left_m - way_left_m
        self.way_left_m.copy_(way_left_m)
        turnaround = self._turnarounds(state.speed)
        change = (self.actions[:, :2] - self.actions[:, 2:4]).square().sum(-1)
        events = [approach, parked, contact, turnaround, torch.ones_like(change), change]
        terms = torch.stack([event.float() for event in events], -1) * self._weights
        self.tally.add_(torch.stack([parked, contact], -1))
        self.last_was_parked.copy_(torch.where(parked | contact, parked, self.last_was_parked))
        time_s = self.episode_steps * self.step_dt_s
        info = {
            "reward_terms": terms,
            "outcome": contact.long(),
            "episode_metrics": {
                "parking_time_s": time_s.masked_fill(~parked, math.nan),
                "turnarounds": self.num_turnarounds.clone(),
                "least_gap_m": self.least_gap_m.clone(),
            },
        }
        return terms.sum(-1), parked | contact, info

    def _turnarounds(self, speed: Tensor) -> Tensor:
        """Return 1 where a car has begun to drive the other way, and count it. Shape: (N,)."""
        # A car that stands keeps its last direction: to stop and go on is no turnaround.
        moving = torch.where(speed.abs() > SUCCESS_M_PER_S, speed.sign(), self.direction)
        turned = (moving * self.direction < 0.0).float()
        self.direction.copy_(moving)
        self.num_turnarounds.add_(turned)
        return turned

    def _way_left(self) -> Tensor:
        """Return the way to the goal that is left in the tightest lot. Shape: (N,) [m]."""
        return look_up(self._costs, *self.car[:, :3].unbind(-1))

    def _errors(self, state: RollingState) -> _Errors:
        """Return how far the cars are from their places."""
        ahead = state.yaw.cos()
        aside = state.yaw.sin()
        goal_ahead = math.cos(GOAL_YAW)
        goal_aside = math.sin(GOAL_YAW)
        offset_x = -(state.x + CAR.center_m * ahead)
        offset_y = GOAL_Y_M - (state.y + CAR.center_m * aside)
        return _Errors(
            x=offset_x * ahead + offset_y * aside,
            y=offset_y * ahead - offset_x * aside,
            cosine=ahead * goal_ahead + aside * goal_aside,
            sine=aside * goal_ahead - ahead * goal_aside,
        )

    def body(self) -> Boxes:
        """Return the outlines of the cars."""
        return parking_lots.body_box(*self.car[:, :3].unbind(-1))

    def gaps(self, body: Boxes) -> Tensor:
        """Return the gaps between outlines and the K parked cars and four walls [m]. Shape: (N, K + 4)."""
        parked = parking_lots.parked_gaps(body, self.lots.parked.index_select(0, self.lot))
        walls = parking_lots.wall_gaps(body, self.lots.aisle[self.lot])
        return torch.cat([parked, walls], -1)

    # Observation.

    def _get_observations(self) -> Observation:
        state = self.state
        errors = self._errors(state)
        body = self.body()
        own = [errors.x, errors.y, errors.cosine, errors.sine, body.x, body.y, state.speed, state.steering]
        widths = [self.lots.slot_width[self.lot], self.lots.aisle[self.lot]]
        gaps = self.gaps(body).clamp(max=_FARTHEST_M)
        mouth = self.lots.mouth.index_select(0, self.lot)
        seen = torch.cat([torch.stack(own, -1), self.actions, torch.stack(widths, -1), gaps, mouth], -1)
        left = 1.0 - self.episode_steps / self.max_episode_steps
        return {
            "policy": seen + self._noise * self.normal(self._noise.numel()),
            "critic": torch.cat([seen, self.drawn, left[:, None]], -1),
        }

    # Video.

    def scenes(self) -> list[Scene]:
        """Return the worlds as they are now."""
        return self._painter.scenes()


def park_mirrors(device: torch.device) -> dict[str, Mirror]:
    """Return the mirrors of `action` and of `policy` and `critic`, for a car in a mirrored lot."""
    action = Mirror.signs(-1.0, 1.0)
    own = Mirror.signs(1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0)
    actions = Mirror.concatenate(*[action] * _HISTORY)
    # Parked cars change places in their row, and so do the walls left and right.
    gaps = Mirror(torch.tensor([3, 2, 1, 0, 5, 4, 6, 7]), torch.ones(8))
    corners = Mirror(torch.tensor([2, 3, 0, 1]), torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    policy = Mirror.concatenate(own, actions, Mirror.signs(1.0, 1.0), gaps, corners)
    critic = Mirror.concatenate(policy, Mirror.signs(1.0, 1.0, 1.0))
    mirrors = {"action": action, "policy": policy, "critic": critic}
    return {name: mirror.to(device) for name, mirror in mirrors.items()}
