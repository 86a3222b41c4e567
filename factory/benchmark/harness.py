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
"""Engine alone, env.step, rollouts, rollouts and updates: each does what the one before does, and more."""

_REPLAYED_STEPS = 8
"""Most control steps of a rollout whose physics `raw` repeats: the states before them are held in memory."""

State = dict[str, dict[str, Tensor]]
EngineCall = tuple[dict[str, Tensor], int]
"""State of the engine before a call of its `step`, and the number of substeps."""


@dataclass(kw_only=True)
class Take:
    """One rollout, kept so that every level can repeat it."""

    start: State
    """State of all parts before the rollout."""
    actions: Tensor
    """Shape: (T, N, A)."""
    engine_calls: list[EngineCall]
    """Evenly spaced calls of the engine; empty where the environment has no engine of its own."""
    engine_share: float
    """Share of all calls that `engine_calls` is."""


@dataclass(kw_only=True)
class Stretch:
    """Some iterations of training without a break."""

    iterations: int
    reading: MeterReading
    tokens: int
    physics_s: float | None
    """Time inside the engine [s]; None where the environment has no engine of its own."""

    def nested_s(self) -> tuple[float | None, float, float, float]:
        """Return the time of every level in `LEVELS`, each within the next [s]."""
        wall_s = self.reading.wall_s
        return self.physics_s, self.reading.phase_s["sim"], wall_s - self.reading.phase_s["learn"], wall_s


@dataclass(kw_only=True)
class Rig:
    """Environment, policy, learner and collector of a training job, without tracker and checkpoints."""

    env: TrainingEnv
    policy: Policy
    learner: Learner
    collector: Collector

    def __post_init__(self) -> None:
        """Let a rollout's control steps be launched as rollouts and updates are."""
        launcher = self.collector.launcher
        env = self.env
        self._actions = torch.zeros_like(self.collector.rollout.actions)
        self._launch_env = launcher(self._step_env, [env.generator] if env.capturable else [])

    @classmethod
    def open(cls, cfg: TrainConfig) -> Rig:
        """Build the parts as a training job does."""
        device.set_up(cfg.runtime.torch_threads, precision=cfg.policy.precision)
        seeding.seed_everything(cfg.seed)
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
        """The physics engine of the environment, None for an environment that does not show one."""
        return getattr(self.env, "physics", None)

    def train(self, meter: Meter, *, iterations: int) -> Stretch:
        """Collect and learn, metered from the first step to the last; `meter` must be new and is closed."""
        tokens = 0
        engine_before_s = self.engine.elapsed_s if self.engine else 0.0
        self.collector.phase = meter.phase
        meter.start()
        for _ in range(iterations):
            rollout, stats = self.collector.collect()
            with meter.phase("learn"):
                self.learner.update(rollout, progress=0.0)
            tokens += int(stats.sums["live_steps"])
        meter.close()
        self.collector.phase = no_phase
        return Stretch(
            iterations=iterations,
            reading=meter.read(),
            tokens=tokens,
            physics_s=self.engine.elapsed_s - engine_before_s if self.engine else None,
        )

    def warm_up(self, steps: int) -> None:
        """Let everything be recorded that will be, and make at least `steps` control steps."""
        if self.collector.launcher is graphs.eager:
            recording = 0
        else:
            recording = graphs.EAGER_CALLS
        for _ in range(recording + 1):
            self.learner.update(self.collector.collect()[0], progress=0.0)
        # The collector does not see the following steps.
        start = self._state()
        for _ in range(recording + 1):
            self._launch_env()
        self._restore(start)
        for _ in range(math.ceil(steps / self.collector.num_steps)):
            self.collector.collect()

    def round(self, seconds: float) -> dict[str, float]:
        """Time one rollout at every level until each has run for `seconds`; return steps per second by level.

        The level that has run for the shortest time comes next, so that a slow moment meets all levels alike.
        """
        take = self._record()
        levels = {"env": self._env_s, "policy": self._policy_s, "learn": self._learn_s}
        steps = dict.fromkeys(levels, self.steps)
        if take.engine_calls:
            levels = {"raw": self._raw_s, **levels}
            steps = {"raw": round(self.steps * take.engine_share), **steps}
        taken_s = dict.fromkeys(levels, 0.0)
        done = dict.fromkeys(levels, 0)
        while min(taken_s.values()) < seconds:
            level = min(taken_s, key=taken_s.__getitem__)
            self._restore(take.start)
            taken_s[level] += levels[level](take)
            done[level] += steps[level]
        return {level: done[level] / taken_s[level] for level in levels}

    # The levels. Each returns the time that its part of the rollout took [s].

    def _raw_s(self, take: Take) -> float:
        """Step the engine from every state that was kept; putting the states there is not timed."""
        total_s = 0.0
        for state, substeps in take.engine_calls:
            self.engine.set_state(state)
            total_s += self._seconds(partial(self.engine.step, substeps))
        return total_s

    def _env_s(self, take: Take) -> float:
        self._actions.copy_(take.actions)
        return self._seconds(self._launch_env)

    def _policy_s(self, take: Take) -> float:
        return self._seconds(self.collector.collect)

    def _learn_s(self, take: Take) -> float:
        return self._seconds(lambda: self.learner.update(self.collector.collect()[0], progress=0.0))

    def _step_env(self) -> None:
        with device.torch_threads(self.collector.sim_threads):
            for action in self._actions:
                self.env.step(action)

    # State.

    def _record(self) -> Take:
        """Fill a rollout operation by operation, recording the engine's calls for later repetition."""
        start = self._state()
        calls = list[EngineCall | None]()
        with self._overheard(calls):
            self.collector.steps(no_phase)
        kept = [call for call in calls if call is not None]
        return Take(
            start=start,
            actions=self.collector.rollout.actions.clone(),
            engine_calls=kept,
            engine_share=len(kept) / max(len(calls), 1),
        )

    @contextlib.contextmanager
    def _overheard(self, calls: list[EngineCall | None]) -> Iterator[None]:
        """Note the calls of the engine's `step`, some of them with the state before, the others as None."""
        if self.engine is None:
            yield
            return
        engine = self.engine
        step = self.engine.step
        every = math.ceil(self.collector.num_steps / _REPLAYED_STEPS)

        def overheard_step(num_substeps: int) -> None:
            calls.append(None if len(calls) % every else (engine.state(), num_substeps))
            step(num_substeps)

        engine.step = overheard_step
        try:
            yield
        finally:
            # The method of the class shows again.
            del engine.step

    def _state(self) -> State:
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
        """Return a meter of seconds alone, which waits for the GPU at the ends of every phase."""
        on_gpu = self.env.device.type == "cuda"
        if on_gpu:
            return Meter(synchronize=torch.cuda.synchronize, sync="boundary")
        return Meter()

    def _seconds(self, work: Callable[[], Any]) -> float:
        """Time `work`, with nothing left on the GPU before and after [s]."""
        self._drain()
        begin_s = time.perf_counter()
        work()
        self._drain()
        return time.perf_counter() - begin_s

    def _drain(self) -> None:
        if self.env.device.type == "cuda":
            torch.cuda.synchronize()
