"""The state of a training job: everything that changes from iteration to iteration, as values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from factory.energy.reading import MeterReading, merge_readings
from factory.energy.tokens import TokenCounter
from factory.training import metrics
from factory.training.health import Health

RETURN_WINDOW = 20
"""Iterations whose finished episodes make up the training return."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Counters, totals and latest metrics of a job; the loop returns a new one for every iteration."""

    env_steps: int = 0
    iteration: int = 0
    tokens: TokenCounter = field(default_factory=TokenCounter)
    health: Health = field(default_factory=Health)
    threshold: dict[str, float] = field(default_factory=dict)
    """Joules and seconds at which the return threshold of the task was first reached; empty before."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of every metric."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags of the run."""
    window: tuple[Mapping[str, float], ...] = ()
    """Episode sums of the last iterations."""
    peers: tuple[MeterReading, ...] = ()
    """Last meter readings of the other processes."""
    is_stopping: bool = False
    """True once all processes agreed to stop early."""
    is_interrupted: bool = False
    """True if a stage was skipped because of a stop request."""

    # Parts of the run before it was resumed.

    resumed_at: int = 0
    """Environment steps."""
    physics_before_s: float = 0.0
    """Time in the physics engine [s]."""
    excluded_s: dict[str, float] = field(default_factory=dict)
    """By `time/` key, seconds spent after the checkpoint that was resumed [s]."""
    peers_before: tuple[MeterReading, ...] = ()
    """Meter readings of the other processes, merged into one."""

    def total(self, own: MeterReading) -> MeterReading:
        """Return the totals of the run, given the reading of this process."""
        return merge_readings([own, *self.peers_before, *self.peers])

    def physics_s(self, own_s: float) -> float:
        """Return the time in the physics engine, given that of this process since it started [s]."""
        return self.physics_before_s + own_s

    def times(self, reading: MeterReading, *, physics_s: float) -> dict[str, float]:
        """Return the `time/` metrics of the training that led to the present weights.

        Joules count everything that was spent; seconds leave out evaluation, export and iterations lost
        before a resume.

        Args:
            reading: totals of the run.
            physics_s: time in the physics engine of this process [s].
        """
        times = {key: value - self.excluded_s.get(key, 0.0) for key, value in metrics.times(reading).items()}
        return times | {"time/physics_s": self.physics_s(physics_s)}


def advance(
    state: TrainState,
    sums: Mapping[str, float],
    learned: Mapping[str, float],
    *,
    steps: int,
    num_processes: int,
    is_finite: bool,
) -> TrainState:
    """Return the state after an iteration.

    Args:
        state: state before it.
        sums: episode sums of its rollout, see `metrics.read_device`.
        learned: results of its update.
        steps: environment steps of its rollout, over all processes.
        num_processes: processes that made the update together.
        is_finite: whether policy and learner were finite after it.
    """
    tokens = copy.copy(state.tokens)
    tokens.add(int(sums["live_steps"]))
    tokens.add_processed(int(learned.get("processed", 0.0)) * num_processes)
    return replace(
        state,
        env_steps=state.env_steps + steps,
        iteration=state.iteration + 1,
        tokens=tokens,
        health=state.health.advance(sums, learned, steps=steps, is_finite=is_finite),
        window=(*state.window, sums)[-RETURN_WINDOW:],
    )
