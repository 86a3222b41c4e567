"""The traffic task: many cars a scene, each a row with an episode of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory import kernels
from factory.envs.core.episode_env import EpisodeEnv
from factory.envs.core.observations import Observation
from factory.envs.rendering.plan_view import PlanView, Scene
from factory.envs.tasks.traffic import entering, rewards
from factory.envs.tasks.traffic.config import TrafficConfig
from factory.envs.tasks.traffic.lane_keeper import lane_keeping
from factory.envs.tasks.traffic.map_table import maps_of, snapped
from factory.envs.tasks.traffic.perception import Cars, Perception, perceive
from factory.envs.tasks.traffic.policies import rule_actions
from factory.envs.tasks.traffic.scene import Ends, draw_scene
from factory.envs.tasks.traffic.scoring import EPISODE_METRICS, TALLIES, episode_metrics, tallied
from factory.envs.tasks.traffic.senses import Senses, compiled_senses, observe_again, senses
from factory.envs.tasks.traffic.vehicles import (
    LEAST_LENGTH_M,
    MOST_ACCELERATION,
    MOST_BRAKING,
    MOST_CORRECTION,
    MOST_STEERING,
    Motion,
    drive,
)

_HALF_LANE_M = 1.75
"""Distance from the middle of the lane at which a car has left it [m]."""
_FLAGS = ("is_driving", "is_queued", "has_ended")
_MOTION = ("x", "y", "heading", "speed", "steering")
_CAR = ("acceleration", "along_m", "lateral_m", "length_m", "standing_s")


class Traffic(PlanView, EpisodeEnv):
    """Cars cross a junction, each on a route of its own, at 10 Hz.

    A scene is a junction and its cars; every car is a row with an episode of its own. An episode ends at the
    end of the route (success), with a contact, off the lane or at the time limit. Its car leaves the road,
    and a new one enters where the lane has a free gap of 2 s; until then the row is not live.

    Observation (num_envs, 132): speed / 10 m/s, recommended minus own speed / 10 m/s, steering angle / 0.6
    rad, acceleration / 6 m/s^2, distance to the left of the route [m], sine and cosine of the angle to the
    route, remaining length / 50 m, own length / 6 m, standing time / 5 s; 5 points of the route 3 to 24 m
    ahead in the car's axes / 24 m, first the forward coordinates, then those to the left. Then 16 numbers for
    each of the 7 nearest cars within 45 m, zeros where there is none: 1, place / 45 m (2), cosine and sine of
    its direction, speed / 10 m/s, closing speed / 10 m/s, its place on its route in 2 s / 45 m (2), nearness
    of both cars to the next zone that their routes share (2), difference of arrival there, lead within it,
    length of it, imminence of a contact at constant speeds, standing time / 5 s.
    Action (num_envs, 2): acceleration, 1 = 3 m/s^2, -1 = -6 m/s^2, beside a drag of 0.1 m/s^2 for each m/s;
    angle of the front wheels beyond that of a lane keeper / 0.3 rad. They follow with a lag of 0.2 s.
    """

    config = TrafficConfig
    step_dt_s = 0.1
    outcomes = ("success", "collision", "off_road")
    episode_metrics = EPISODE_METRICS
    reward_terms = ("progress", "goal", "collision", "off_road", "closeness", "deviation", "effort")
    persistent = (
        "map",
        "route",
        "is_driving",
        "is_queued",
        "has_ended",
        *_MOTION,
        *_CAR,
        "start_m",
        *TALLIES,
    )

    map: Tensor
    route: Tensor
    is_driving: Tensor
    is_queued: Tensor
    has_ended: Tensor
    length_m: Tensor
    start_m: Tensor

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (2,), np.float32)

    def _setup(self) -> None:
        cfg = self.cfg
        self.kinds, self.table, self._most_places = maps_of(cfg.maps, cfg.num_maps, self.device)
        self.shape = (self.num_worlds, cfg.agents_per_world)
        on = self.device
        for name in ("map", "route"):
            setattr(self, name, torch.zeros(self.num_envs, dtype=torch.int64, device=on))
        for name in _FLAGS:
            setattr(self, name, torch.zeros(self.num_envs, dtype=torch.bool, device=on))
        for name in (*_MOTION, *_CAR, "start_m", *TALLIES):
            setattr(self, name, torch.zeros(self.num_envs, device=on))
        self.length_m.fill_(LEAST_LENGTH_M)
        # The last cars of a scene are driven by rules.
        number = torch.arange(cfg.agents_per_world, device=on).expand(self.shape)
        self.is_rule_driven = (number >= cfg.agents_per_world - cfg.rule_drivers).flatten()
        self._view: Perception | None = None
        self._senses: Senses | None = None
        nothing = torch.zeros(self.shape, device=on)
        self._ends = Ends(nothing, nothing, nothing.long(), nothing + torch.inf)
        self._acted = torch.zeros(self.num_envs, dtype=torch.bool, device=on)
        self._commands = torch.zeros(*self.shape, 2, device=on)
        self._driven_m = torch.zeros(self.shape, device=on)

    @property
    def cars(self) -> Cars:
        """All cars by scene, as views of the environment's own tensors."""
        motion = Motion(*(getattr(self, name).view(self.shape) for name in _MOTION))
        values = {name: getattr(self, name).view(self.shape) for name in ("route", "is_driving", *_CAR)}
        return Cars(motion=motion, **values)

    def perception(self) -> Perception:
        """Return what the cars know about each other now."""
        if self._view is None:
            self._view = perceive(self.table, self.cars)
        return self._view

    @property
    def _is_compiled(self) -> bool:
        """True where a kernel computes `senses`."""
        return self._reads_values and kernels.are_enabled()

    def _sense(self) -> Senses:
        """Return what the cars sense now."""
        if self._senses is None:
            neighbours = self.cfg.neighbours
            if self._is_compiled:
                self._senses = compiled_senses(self.table, self.cars, neighbours=neighbours)
            else:
                self._senses = senses(self.table, self.cars, self.perception(), neighbours=neighbours)
        return self._senses

    def _forget(self) -> None:
        """Forget what was known about a state that is changing."""
        self._view = None
        self._senses = None

    def _advance(self, action: Tensor) -> None:
        self._forget()
        # Cars leave the road when their episode has ended, also where nobody has reset their row yet.
        self.is_driving &= ~self.has_ended
        commands = self.native_actions(action).view(*self.shape, 2)
        if self.cfg.rule_drivers:
            own = self.is_rule_driven.view(self.shape)[..., None]
            # For all cars, since a batch has one shape.
            ruled = rule_actions(self.table, self.cars, self.perception(), rule="idm")
            commands = torch.where(own, ruled, commands)
            self._forget()
        pedal, wheel = commands.unbind(-1)
        # The action scales throttle and brake apart: brakes are stronger than the motor.
        acceleration = torch.where(pedal > 0.0, MOST_ACCELERATION * pedal, MOST_BRAKING * pedal)
        self._acted.copy_(self.is_driving)
        self._commands.copy_(commands)
        steering = lane_keeping(self.table, self.cars) + MOST_CORRECTION * wheel
        self._move(acceleration, steering.clamp(-MOST_STEERING, MOST_STEERING))
        self._enter(self.is_queued)

    def _move(self, acceleration: Tensor, steering: Tensor) -> None:
        """Move all cars on the road by one step. Shapes: (S, C) [m/s^2], [rad]."""
        cars = self.cars
        moved = drive(cars.motion, acceleration, steering, length_m=cars.length_m, dt_s=self.step_dt_s)
        # Project the new place onto the route, at the point nearest to where the car is expected.
        expected = snapped(cars.along_m + self.step_dt_s * moved.speed)
        x, y, cos, sin, _ = self.table.at(cars.route, expected).unbind(-1)
        dx = moved.x - x
        dy = moved.y - y
        # Along the route: the expected point, and how far the car is ahead of it.
        along_m = expected + cos * dx + sin * dy
        self._driven_m.copy_(along_m - cars.along_m)
        is_still = moved.speed < 0.1
        values = {
            **moved._asdict(),
            "acceleration": (moved.speed - cars.motion.speed) / self.step_dt_s,
            "along_m": along_m,
            "lateral_m": cos * dy - sin * dx,
            "standing_s": torch.where(is_still, cars.standing_s + self.step_dt_s, 0.0),
        }
        self._write(values, self.is_driving)

    def _write(self, values: dict[str, Tensor], mask: Tensor) -> None:
        """Set tensors of the rows in `mask` (num_envs,). Shapes: (S, C), or (S, 1) for equal ones."""
        where = mask.view(self.shape)
        for name, value in values.items():
            own = getattr(self, name).view(self.shape)
            torch.where(where, value.to(own.dtype), own, out=own)

    def _reset_envs(self, mask: Tensor) -> None:
        self._forget()
        self.is_driving &= ~mask
        self.is_queued |= mask
        self.has_ended &= ~mask
        # A scene in which all cars start anew is a new scene.
        is_whole = mask.view(self.shape).all(-1, keepdim=True).expand(self.shape).flatten()
        self._begin_scenes(is_whole)
        self._enter(mask & self.is_queued)

    def _begin_scenes(self, mask: Tensor) -> None:
        """Draw maps for the scenes in `mask` (num_envs,), and put their cars at places of their own."""
        table = self.table
        worlds, cars = self.shape
        which = self._draw(1)[:, :1, 0]
        keys = self._draw(-(-self._most_places // cars)).flatten(1)[:, : self._most_places]
        drawn = self._draw(3)
        # In most steps there is no such scene. The numbers are drawn nevertheless: later ones follow them.
        if not self._any_or_gpu(mask):
            return
        map_ = (which * self.cfg.num_maps).long()
        if self.cfg.maps != "train":
            # Scene after scene, so that every evaluation has the same maps.
            first = self.shard.rows(worlds).start
            map_ = ((first + torch.arange(worlds, device=self.device)) % self.cfg.num_maps)[:, None]

        place, has_place = entering.places(table, map_, keys, num_cars=cars)
        speed = 2.0 + 4.0 * drawn[..., 2]
        self._write({"map": map_.expand(self.shape)}, mask)
        self._put(mask & has_place.flatten(), table.place_entry[place], table.place_m[place], speed, drawn)

    def _enter(self, mask: Tensor) -> None:
        """Let a car of every scene enter, the first one in `mask` (num_envs,) if its lane is free."""
        table = self.table
        waiting = mask.view(self.shape)
        # One car a scene and step, so that two do not enter the same gap.
        first = waiting.byte().argmax(-1, keepdim=True)
        drawn = self._draw(4).gather(1, first[..., None].expand(-1, -1, 4))
        map_ = self.map.view(self.shape).gather(1, first)
        entry = table.first_entry[map_] + (drawn[..., 3] * table.num_entries[map_]).long()
        speed = 4.0 + 4.0 * drawn[..., 2]

        is_free = entering.is_free(table, self.cars, first, entry, speed)
        is_first = waiting & (waiting.cumsum(-1) == 1)
        self._put((is_first & is_free).flatten(), entry, torch.zeros_like(speed), speed, drawn)

    def _put(self, mask: Tensor, entry: Tensor, along_m: Tensor, speed: Tensor, drawn: Tensor) -> None:
        """Put cars in `mask` (num_envs,) on the road, see `entering.new_cars`. Shapes: as for `_write`."""
        self._write(entering.new_cars(self.table, entry, along_m, speed, drawn), mask)
        for name in TALLIES:
            getattr(self, name).masked_fill_(mask, 0.0)

    def _draw(self, size: int) -> Tensor:
        """Draw random numbers in [0, 1). Shape: (S, C, size)."""
        return self.uniform(0.0, 1.0, size).view(*self.shape, size)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        cars = self.cars
        sensed = self._sense()
        acted = self._acted.view(self.shape)
        # Whichever comes first in this order is the outcome.
        is_collision = sensed.is_touching & acted
        has_left = rewards.has_left_lane(sensed.along_route, cars.lateral_m, half_lane_m=_HALF_LANE_M)
        is_off_road = has_left & acted & ~is_collision
        arrives = cars.along_m >= self.table.length_m[cars.route] - 1.0
        is_goal = arrives & acted & ~is_collision & ~is_off_road

        weights = self.cfg.rewards
        terms = {
            "progress": weights.progress * rewards.reward_progress(self._driven_m),
            "goal": weights.goal * is_goal,
            "collision": -weights.collision * sensed.is_to_blame.float(),
            "off_road": -weights.off_road * is_off_road,
            "closeness": -weights.closeness * sensed.imminence,
            "deviation": -weights.deviation * rewards.cost_deviation(cars.lateral_m),
            "effort": -weights.effort * rewards.cost_effort(self._commands),
        }
        # Stacked term by term and turned afterwards, which a CPU does faster than number by number.
        by_term = torch.stack([terms[name].flatten() for name in self.reward_terms]) * self._acted
        by_term = by_term.T.contiguous()
        ended = (is_collision | is_off_road | is_goal).flatten()
        self.has_ended |= ended
        # A row that waits for a free gap has no episode yet.
        self.episode_steps.masked_fill_(~self._acted, 0)
        tally = {name: getattr(self, name).view(self.shape) for name in TALLIES}
        self._write(tallied(tally, cars, sensed.imminence, is_goal), self._acted)
        metrics = episode_metrics(
            self.table,
            cars,
            tally,
            start_m=self.start_m.view(self.shape),
            time_s=(self.episode_steps * self.step_dt_s).view(self.shape),
            dt_s=self.step_dt_s,
        )
        # A row learns from steps in which its own action moved a car.
        learns = self._acted & ~self.is_rule_driven
        outcome = is_collision * 1 + is_off_road * 2
        info = {
            "reward_terms": by_term,
            "outcome": outcome.flatten(),
            "live": learns,
            "episode_metrics": {name: value.flatten() for name, value in metrics.items()},
        }
        return by_term.sum(-1), ended, info

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every car by one control step, see `EpisodeEnv.step`."""
        if self.render_mode is None:
            return super().step(actions)
        # A film shows outcomes where the cars were, and they have left when the step is over.
        before = [value.clone() for value in self.cars.motion[:2]]
        result = super().step(actions)
        ended = (result[2] | result[3]).view(self.shape)
        now = (*before, result[4]["outcome"].view(self.shape), torch.zeros_like(before[0]))
        kept = self._ends._replace(age=self._ends.age + 1.0)
        pairs = zip(now, kept, strict=True)
        self._ends = Ends(*(torch.where(ended, new, old) for new, old in pairs))
        return result

    def scenes(self) -> list[Scene]:
        """Return every scene as it is now."""
        maps = self.map.view(self.shape)[:, 0].tolist()
        return [
            draw_scene(
                self.table,
                self.cars,
                self._ends,
                world=world,
                map_=map_,
                names=self.outcome_names,
                title=self.kinds[map_].replace("_", " "),
                num_ruled=self.cfg.rule_drivers,
            )
            for world, map_ in enumerate(maps)
        ]

    def _get_observations(self) -> Observation:
        return {"policy": self._sense().seen.flatten(0, 1)}

    def _first_observations(self, mask: Tensor, obs: Observation) -> Observation:
        if not self._is_compiled:
            return super()._first_observations(mask, obs)
        # Only for the rows in `mask`, a few hundredths of all in most steps.
        seen = obs["policy"].clone().view(*self.shape, -1)
        rows = mask.view(self.shape)
        observe_again(self.table, self.cars, rows, seen, neighbours=self.cfg.neighbours)
        return {"policy": seen.flatten(0, 1)}
