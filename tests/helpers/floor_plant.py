"""A small floor under a clock of its own: lines draw power, start, work and leave as the scheduler says."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from factory.floor.lines import LineState, Needs
from factory.floor.plan import (
    Action,
    Bar,
    FloorView,
    LineView,
    OperatingPoint,
    Plan,
    PowerLimit,
    PowerSample,
    Settings,
    Verb,
)
from factory.floor.scheduler import plan

_DRAWING = (LineState.STARTING, LineState.RUNNING, LineState.PREEMPTING)


@dataclass
class PlantLine:
    """One line, with its true power and the work it has to do."""

    id: int
    watts: float = 5.0
    predicted_w: float | None = None
    """Power that the floor believes in; the true one if None."""
    sd_w: float = 0.0
    cores: float = 1.0
    memory_bytes: int = 10**9
    gpus: int = 0
    flex: int = 1
    priority: int = 0
    tokens_per_s: float = 1000.0
    work_s: float = inf
    start_s: float = 3.0
    stop_s: float = 2.0
    submitted_s: float = 0.0
    deadline_s: float | None = None
    is_held: bool = False
    state: LineState = LineState.QUEUED
    since_s: float = 0.0
    done_s: float = 0.0
    first_started_s: float | None = None
    preempted_s: tuple[float, ...] = ()
    shed_s: tuple[float, ...] = ()

    def view(self) -> LineView:
        """Return the line as the scheduler sees it."""
        predicted_w = self.predicted_w
        if predicted_w is None:
            predicted_w = self.watts
        return LineView(
            id=self.id,
            state=self.state,
            since_s=self.since_s,
            submitted_s=self.submitted_s,
            needs=Needs(cores=self.cores, memory_bytes=self.memory_bytes, gpus=self.gpus),
            point=OperatingPoint(
                power_w=predicted_w, power_sd_w=self.sd_w, tokens_per_s=self.tokens_per_s, is_prior=False
            ),
            priority=self.priority,
            flex=self.flex,
            remaining_tokens=(self.work_s - self.done_s) * self.tokens_per_s,
            deadline_s=self.deadline_s,
            preempted_s=self.preempted_s,
            shed_s=self.shed_s,
            is_held=self.is_held,
        )


@dataclass
class Plant:
    """The floor: one tick a second."""

    lines: list[PlantLine]
    cores: float = 8.0
    memory_bytes: int = 64 * 10**9
    gpus: int = 0
    idle_w: float = 10.0
    most_w: float = inf
    """Most power that the node can draw; lines that go on take what others leave."""
    noise_w: float = 0.0
    """Half width of the uniform noise of the meter."""
    settings: Settings = field(default_factory=Settings)
    seed: int = 0
    now: float = 1000.0
    samples: list[PowerSample] = field(default_factory=list)
    log: list[tuple[float, Action]] = field(default_factory=list)
    last_start_s: float = -inf
    last_plan: Plan = field(default_factory=Plan)
    bar: Bar = field(default_factory=Bar)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @property
    def power_w(self) -> float:
        """Return the true power."""
        asked_w = self.idle_w + sum(line.watts for line in self.lines if line.state in _DRAWING)
        return min(asked_w, self.most_w)

    def view(self) -> FloorView:
        """Return the floor as the scheduler sees it."""
        return FloorView(
            lines=tuple(line.view() for line in self.lines if not line.state.is_final),
            capacity=Needs(cores=self.cores, memory_bytes=self.memory_bytes, gpus=self.gpus),
            power=tuple(self.samples[-60:]),
            idle_w=self.idle_w,
            most_w=self.most_w,
            last_start_s=self.last_start_s,
            bar=self.bar,
        )

    def tick(self, limit: PowerLimit) -> Plan:
        """Measure, plan, act, and let a second pass."""
        measured_w = self.power_w + self._random.uniform(-self.noise_w, self.noise_w)
        tokens = sum(line.done_s * line.tokens_per_s for line in self.lines)
        self.samples.append(PowerSample(self.now, measured_w, limit.limit_w, tokens))
        self.last_plan = plan(self.view(), limit, self.now, self.settings)
        by_id = {line.id: line for line in self.lines}
        for action in self.last_plan.actions:
            self.log.append((self.now, action))
            self._carry_out(action, by_id[action.line])
        self.now += 1.0
        for line in self.lines:
            self._advance(line)
        return self.last_plan

    def run(self, seconds: int, limit: Callable[[float], PowerLimit] | PowerLimit) -> None:
        """Pass some seconds under a budget, constant or a function of the seconds since now."""
        start = self.now
        for _ in range(seconds):
            now_limit = limit
            if callable(now_limit):
                now_limit = now_limit(self.now - start)
            self.tick(now_limit)

    def count(self, verb: Verb, *, since: float = -inf) -> int:
        """Return the number of actions of a kind."""
        return sum(time_s >= since and action.verb is verb for time_s, action in self.log)

    def _carry_out(self, action: Action, line: PlantLine) -> None:
        allowed = {
            Verb.START: (LineState.QUEUED,),
            Verb.RESUME: (LineState.PAUSED,),
            Verb.PAUSE: (LineState.RUNNING,),
            Verb.PREEMPT: (LineState.RUNNING, LineState.PAUSED),
        }
        assert line.state in allowed[action.verb], f"{action.verb} of a line that is {line.state}"
        assert not line.is_held
        following = {
            Verb.START: LineState.STARTING,
            Verb.RESUME: LineState.RUNNING,
            Verb.PAUSE: LineState.PAUSED,
            Verb.PREEMPT: LineState.PREEMPTING,
        }
        line.state = following[action.verb]
        line.since_s = self.now
        if action.verb in (Verb.START, Verb.RESUME):
            self.last_start_s = self.now
            if line.first_started_s is None:
                line.first_started_s = self.now
        if action.verb is Verb.PAUSE:
            line.shed_s = (*line.shed_s, self.now)
        if action.verb is Verb.PREEMPT:
            line.preempted_s = (*line.preempted_s, self.now)

    def _advance(self, line: PlantLine) -> None:
        age_s = self.now - line.since_s
        if line.state is LineState.STARTING and age_s >= line.start_s:
            self._enter(line, LineState.RUNNING)
        elif line.state is LineState.PREEMPTING and age_s >= line.stop_s:
            self._enter(line, LineState.QUEUED)
        elif line.state is LineState.RUNNING:
            line.done_s += 1.0
            if line.done_s >= line.work_s:
                self._enter(line, LineState.FINISHED)

    def _enter(self, line: PlantLine, state: LineState) -> None:
        line.state = state
        line.since_s = self.now
