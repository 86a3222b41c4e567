"""The parts and state of a training job, set up so that every level of its loop can repeat one rollout."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from factory.config import TrainConfig
from factory.energy.meter import Meter
from factory.energy.reading import MeterReading
from factory.envs.core.training_env import TrainingEnv
from factory.learners.base import Learner
from factory.policies.base import Policy
from factory.runtime import device, graphs, seeding
from factory.training.build import make_env, make_loop, make_policy
from factory.training.collector import Collector, no_phase

LEVELS = ("raw", "env", "policy", "learn")
"""Engine alone, `env.step`, rollouts, rollouts with updates; each level contains the one before it."""

_REPLAYED_STEPS = 8
"""Largest number of control steps that `raw` repeats; the state before each of them is held in memory."""

# Part of the job (`env`, `collector`, ...) -> its tensors by name.
State = dict[str, dict[str, Tensor]]
EngineCall = tuple[dict[str, Tensor], int]
"""State of the engine before a call of its `step`, and the number of substeps."""


@dataclass(kw_only=True)
class RecordedRollout:
    """A rollout that every level can repeat."""

    start: State
    """State of all parts before the rollout."""
    actions: Tensor
    """Shape: (T, N, A)."""
    engine_calls: list[EngineCall]
    """Evenly spaced calls of the engine; empty where the environment has no engine of its own."""
    engine_share: float
    """Number of `engine_calls` over the number of all calls."""


@dataclass(kw_only=True)
class Segment:
    """Uninterrupted iterations of training, metered."""

    iterations: int
    reading: MeterReading
    tokens: int
    physics_s: float | None
    """Time inside the engine [s]; None where the environment has no engine of its own."""

    def nested_s(self) -> tuple[float | None, float, float, float]:
        """Return the time of every level in `LEVELS`, each within the next [s]."""
        # raw: inside the engine; env: inside env.step; policy: all but the updates; learn: everything.
        wall_s = self.reading.wall_s
        env_s = self.reading.phase_s["sim"]
        policy_s = wall_s - self.reading.phase_s["learn"]
        return self.physics_s, env_s, policy_s, wall_s


@dataclass(kw_only=True)
class Harness:
    """Environment, policy, learner and collector of a training job, without tracker and checkpoints."""

    env: TrainingEnv
    policy: Policy
    learner: Learner
    collector: Collector

    def __post_init__(self) -> None:
        """Launch the environment's steps like rollouts and updates, as a CUDA graph where those are."""
        # The graph reads actions from fixed memory, so each level copies its actions into this tensor.
        self._actions = torch.zeros_like(self.collector.rollout.actions)
        generators = []
        if self.env.capturable:
            generators.append(self.env.generator)
        self._launch_env = self.collector.launcher(self._step_env, generators)

    @classmethod
    def open(cls, cfg: TrainConfig) -> Harness:
        """Build the parts as a training job does."""
        device.set_up(cfg.runtime.torch_threads, precision=cfg.policy.precision)
        seeding.seed_everything(cfg.seed)
        # The same order as in a training job, since each part draws from the generators.
        env = make_env(cfg, num_envs=cfg.num_envs)
        policy = make_policy(cfg, env)
        collector, learner, _ = make_loop(cfg, env, policy, phase=no_phase)
        env.randomize_episode_phase()
        return cls(env=env, policy=policy, learner=learner, collector=collector)

    @property
    def steps(self) -> int:
        """Control steps of a rollout, summed over worlds."""
        return self.collector.num_steps * self.env.num_envs

    @property
    def engine(self) -> Any:
        """The physics engine of the environment, None for an environment that does not expose one."""
        return getattr(self.env, "physics", None)

    def train(self, meter: Meter, *, iterations: int) -> Segment:
        """Collect and learn, metered from the first step to the last; `meter` must be new and is closed."""
        tokens = 0
        engine_before_s = self._engine_s()
        # The collector enters the phases `sim` and `infer` by itself.
        self.collector.phase = meter.phase
        meter.start()
        for _ in range(iterations):
            rollout, stats = self.collector.collect()
            with meter.phase("learn"):
                self.learner.update(rollout, progress=0.0)
            tokens += int(stats.sums["live_steps"])
        meter.close()
        self.collector.phase = no_phase
        physics_s = None
        if self.engine:
            physics_s = self._engine_s() - engine_before_s
        return Segment(iterations=iterations, reading=meter.read(), tokens=tokens, physics_s=physics_s)

    def warm_up(self, steps: int) -> None:
        """Finish all CUDA graph captures and make at least `steps` control steps."""
        # Work is captured after `EAGER_CALLS` calls; one more call uses the graph for the first time.
        num_calls = 1
        if self.collector.launcher is not graphs.eager:
            num_calls += graphs.EAGER_CALLS
        for _ in range(num_calls):
            self.learner.update(self.collector.collect()[0], progress=0.0)

        # Steps that bypass the collector would leave it with old observations, so they are undone.
        start = self._state()
        for _ in range(num_calls):
            self._launch_env()
        self._restore(start)
        for _ in range(math.ceil(steps / self.collector.num_steps)):
            self.collector.collect()

    def measure_round(self, seconds: float) -> dict[str, float]:
        """Time one rollout at every level until each has run for `seconds`; return steps per second by level.

        The level with the shortest total time comes next, so that slowdowns affect all levels equally.
        """
        recorded = self._record()
        levels = {"env": self._env_s, "policy": self._policy_s, "learn": self._learn_s}
        steps = dict.fromkeys(levels, self.steps)
        if recorded.engine_calls:
            levels = {"raw": self._raw_s, **levels}
            # `raw` repeats only some of the rollout's steps, and is credited with those alone.
            steps = {"raw": round(self.steps * recorded.engine_share), **steps}
        spent_s = dict.fromkeys(levels, 0.0)
        done = dict.fromkeys(levels, 0)
        while min(spent_s.values()) < seconds:
            level = min(spent_s, key=spent_s.__getitem__)
            # Every level starts from the same state and noise, so all of them simulate the same steps.
            self._restore(recorded.start)
            spent_s[level] += levels[level](recorded)
            done[level] += steps[level]
        return {level: done[level] / spent_s[level] for level in levels}

    # The levels. Each returns the time that its part of the rollout took [s].

    def _raw_s(self, recorded: RecordedRollout) -> float:
        """Step the engine from every recorded state; loading the states is not timed."""
        total_s = 0.0
        for state, substeps in recorded.engine_calls:
            self.engine.set_state(state)
            total_s += self._seconds(partial(self.engine.step, substeps))
        return total_s

    def _env_s(self, recorded: RecordedRollout) -> float:
        self._actions.copy_(recorded.actions)
        return self._seconds(self._launch_env)

    def _policy_s(self, recorded: RecordedRollout) -> float:
        # The policy samples the recorded actions again, because its generator was restored too.
        return self._seconds(self.collector.collect)

    def _learn_s(self, recorded: RecordedRollout) -> float:
        return self._seconds(lambda: self.learner.update(self.collector.collect()[0], progress=0.0))

    def _step_env(self) -> None:
        # The thread count of the collector: with another one, the level would time another program.
        with device.torch_threads(self.collector.sim_threads):
            for action in self._actions:
                self.env.step(action)

    # State.

    def _record(self) -> RecordedRollout:
        """Collect a rollout operation by operation and record the engine's calls."""
        start = self._state()
        calls = list[EngineCall | None]()
        # Not `collect`: a replayed CUDA graph would never call the engine's Python method.
        with self._recording_engine_calls(calls):
            self.collector.steps(no_phase)
        kept = [call for call in calls if call is not None]
        return RecordedRollout(
            start=start,
            actions=self.collector.rollout.actions.clone(),
            engine_calls=kept,
            engine_share=len(kept) / max(len(calls), 1),
        )

    @contextlib.contextmanager
    def _recording_engine_calls(self, calls: list[EngineCall | None]) -> Iterator[None]:
        """List the calls of the engine's `step`: some with the state before the call, the others as None."""
        if self.engine is None:
            yield
            return
        engine = self.engine
        step = self.engine.step
        # Copying a state takes memory and time, so only every so many calls keep theirs.
        every = math.ceil(self.collector.num_steps / _REPLAYED_STEPS)

        def recording_step(num_substeps: int) -> None:
            call = None
            if len(calls) % every == 0:
                call = (engine.state(), num_substeps)
            calls.append(call)
            step(num_substeps)

        engine.step = recording_step
        try:
            yield
        finally:
            # Deleting the instance's attribute uncovers the method of the class.
            del engine.step

    def _engine_s(self) -> float:
        """Return the time spent inside the engine so far [s], 0 if there is none."""
        if self.engine:
            return float(self.engine.elapsed_s)
        return 0.0

    def _state(self) -> State:
        # Parameters are cloned because updates change them in place; the other parts return copies.
        policy = {name: value.clone() for name, value in self.policy.state_dict().items()}
        return {
            "env": self.env.state_dict(),
            "collector": self.collector.state_dict(),
            "policy": policy,
            "learner": self.learner.state_dict(),
            "noise": {"generator": self.policy.generator.get_state()},
        }

    def _restore(self, state: State) -> None:
        self.env.load_state_dict(state["env"])
        self.collector.load_state_dict(state["collector"])
        self.policy.load_state_dict(state["policy"])
        self.learner.load_state_dict(state["learner"])
        self.policy.generator.set_state(state["noise"]["generator"])

    # Clocks.

    def stopwatch(self) -> Meter:
        """Return a meter without energy sources; on a GPU it synchronises at every phase boundary."""
        if self.env.device.type == "cuda":
            return Meter(synchronize=torch.cuda.synchronize, sync="boundary")
        return Meter()

    def _seconds(self, work: Callable[[], Any]) -> float:
        """Return the duration of `work` [s], from an idle GPU to an idle GPU."""
        self._drain()
        begin_s = time.perf_counter()
        work()
        self._drain()
        return time.perf_counter() - begin_s

    def _drain(self) -> None:
        # CUDA launches return at once; the clock may only be read when the work is done.
        if self.env.device.type == "cuda":
            torch.cuda.synchronize()
