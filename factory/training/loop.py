"""The training loop: collect, learn, log, checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from factory.envs.core.training_env import TrainingEnv
from factory.runtime import distributed
from factory.training import metrics, snapshot
from factory.training.fault import write_fault
from factory.training.health import Health, UnhealthyTrainingError
from factory.training.job import TrainingJob, require_folder
from factory.training.state import TrainState, advance

_IS_FINITE = "is_finite"
"""Beside the results of an update, so that all are read from the device in one transfer."""


def start(job: TrainingJob, state: TrainState) -> None:
    """Show what is about to be trained."""
    header = {
        "task": state.tags["task"],
        "robot": state.tags["robot"],
        "physics": state.tags["physics"],
        "policy": job.cfg.policy.name,
        "learner": job.cfg.learner.name,
        "device": job.cfg.device,
        "worlds": str(job.cfg.num_envs),
        "seed": str(job.cfg.seed),
    }
    job.console.start(header, total_steps=job.cfg.last_step, start_steps=state.env_steps)
    for note in job.notes:
        job.console.message(note)
    job.throttle.start()


def iterate(job: TrainingJob, state: TrainState) -> TrainState:
    """Make one iteration: a rollout, an update, its log rows, and a checkpoint where one is due."""
    before = state
    progress = state.env_steps / job.cfg.total_steps
    rollout, stats = job.collector.collect()
    with job.meter.phase("learn"):
        update = job.learner.update(rollout, progress=progress)
        update = update | {_IS_FINITE: job.guard.check()}
    with job.meter.phase("io"):
        sums, learned, terms = metrics.read_device(stats, update)
        is_finite = bool(learned.pop(_IS_FINITE))
        if is_finite:
            job.guard.keep()
        else:
            job.guard.go_back()
        state = advance(
            state,
            sums,
            learned,
            steps=job.steps_per_iteration,
            num_processes=distributed.size(),
            is_finite=is_finite,
        )
        # A request may reach one process at any time, and all processes must leave the loop together.
        state = replace(state, is_stopping=distributed.any_rank(job.control.should_stop))
        state = _log(job, state, learned)
        job.reward_table.append(state.env_steps, terms)
        show_warnings(job, job.env)
        _show_health(job, before.health, state.health)
    is_due = state.iteration % job.cfg.checkpoint_every == 0
    if _is_checkpoint_requested(job) or is_due:
        save_checkpoint(job, state)
    if job.control.is_paused:
        job.console.message(f"paused at {state.env_steps} environment steps")
        with job.meter.phase("idle"):
            job.control.wait_while_paused()
    if warning := job.throttle.wait(lambda: job.control.should_stop):
        job.console.message(warning)
    return state


def _is_checkpoint_requested(job: TrainingJob) -> bool:
    """Return whether any process got a request, since all take part in a checkpoint."""
    is_requested = job.control.take_checkpoint_request()
    if distributed.size() == 1:
        return is_requested
    return distributed.any_rank(is_requested)


def is_done(job: TrainingJob, state: TrainState) -> bool:
    """Return whether training ends here: all steps are done, or all processes agreed to stop."""
    return state.is_stopping or state.env_steps >= job.cfg.last_step


def end(job: TrainingJob, state: TrainState) -> None:
    """Write the last checkpoint, unless the last iteration did; a stop skips the stages that follow."""
    if state.is_stopping:
        # Perhaps another process received the request.
        job.control.request_stop()
    stop_if_unhealthy(job, state, at_end=True)
    if state.health.num_events:
        job.console.message(state.health.text)
    if state.iteration % job.cfg.checkpoint_every != 0:
        save_checkpoint(job, state)
    if not state.is_stopping and state.env_steps < job.cfg.total_steps:
        job.console.message(
            f"stopped at {state.env_steps} of {job.cfg.total_steps} environment steps, as stop_at_steps asks;"
            f" resume={job.run_dir} stop_at_steps=0 trains the rest"
        )


def stop_if_unhealthy(job: TrainingJob, state: TrainState, *, at_end: bool = False) -> None:
    """Raise `UnhealthyTrainingError` where learning does not go on, after a checkpoint and the evidence.

    Args:
        job: the job.
        state: its state after the last iteration.
        at_end: whether no iteration follows.
    """
    # Evidence first, then the checkpoint to go on from, then the end.
    problem = state.health.problem(at_end=at_end)
    if not problem:
        return
    folder = job.run_dir / "fault"
    if distributed.rank() == 0:
        write_fault(job, state, problem, folder)
    # Policy and learner are as after the last good update.
    save_checkpoint(job, replace(state, health=state.health.forgiven()))
    raise UnhealthyTrainingError(
        f"learning stopped at step {state.env_steps}: {problem}; samples, settings and versions: {folder}"
    )


def save_checkpoint(job: TrainingJob, state: TrainState) -> None:
    """Write a checkpoint and report its folder."""
    with job.meter.phase("checkpoint"):
        path = snapshot.save(job, state)
    job.console.message(f"checkpoint {path}")


def _show_health(job: TrainingJob, before: Health, now: Health) -> None:
    """Show what was left out of learning, the first time and whenever it has grown tenfold."""
    if now.num_events and len(str(now.num_events)) > len(str(before.num_events or "")):
        job.console.message(now.text)


def show_warnings(job: TrainingJob, env: TrainingEnv) -> None:
    """Show warnings of an environment and of the energy meter."""
    for warning in (*env.warnings(), *job.meter.warnings()):
        job.console.message(warning)


def _log(job: TrainingJob, state: TrainState, learned: Mapping[str, float]) -> TrainState:
    """Hand the metrics of an iteration to journal, tracker, console and listener.

    Return the state with them.
    """
    require_folder(job)
    own = job.meter.read()
    state = replace(state, peers=tuple(distributed.gather_from_peers(own)))
    reading = state.total(own)
    times = state.times(reading, physics_s=job.env.physics_s)
    # Iterations before a resume may lack sums that are new.
    episodes = {key: sum(sums.get(key, 0.0) for sums in state.window) for key in state.window[-1]}
    wall_s = times["time/wall_s"]
    row = {
        **metrics.episodes(episodes, job.env),
        **metrics.losses(learned),
        **times,
        **metrics.energy(reading, state.tokens.total),
        "factory/env_steps": float(state.env_steps),
        "factory/iterations": float(state.iteration),
        "factory/tokens_total": float(state.tokens.total),
        "factory/tokens_per_s": state.tokens.total / wall_s,
        "factory/env_steps_per_s": state.env_steps / wall_s,
        **state.health.metrics(),
    }

    threshold = job.cfg.task.return_threshold
    is_reached = threshold is not None and row.get("train/return_mean", -math.inf) >= threshold
    # The first time counts: what it took to learn the task.
    if is_reached and not state.threshold:
        first = {"factory/joules_to_threshold": reading.total_j, "factory/seconds_to_threshold": wall_s}
        state = replace(state, threshold=first)
    row |= state.threshold

    state = replace(state, metrics=state.metrics | row, tags=state.tags | metrics.energy_tags(reading))
    # Journal first: whatever happens to tracker or console, the row is on the disk.
    job.journal.append(row, state.env_steps)
    job.tracker.log(row, state.env_steps)
    snapshot.write_energy(job, state)
    job.console.update(row, reading.tier)
    job.control.on_metrics(row, state.env_steps)
    return state
