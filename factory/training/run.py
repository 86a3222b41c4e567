"""Run a training job from start to report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from factory.config import TrainConfig
from factory.energy.idle import idle_power
from factory.energy.types import Interval
from factory.reporting.console import Console, NullConsole
from factory.runtime import distributed
from factory.training import loop, stages
from factory.training.control import RunControl
from factory.training.job import TrainingJob, close_job, open_job, require_folder
from factory.training.stages import STAGES, Stage
from factory.training.state import TrainState


def train(
    cfg: TrainConfig, run_dir: Path, *, control: RunControl | None = None, console: Console | None = None
) -> dict[str, float]:
    """Train, evaluate, record, export and report in this process.

    Nothing is printed without a console, no signal handler is installed, and errors are raised as they are.

    Args:
        cfg: the job, for example from `factory.config.compose`.
        run_dir: folder for everything the run leaves behind.
        control: stops, pauses or observes the job from another thread.
        console: shows the run.

    Returns:
        Last value of every metric, as in `summary.json`.

    Raises:
        ValueError: the configuration does not fit this machine, or the checkpoint to resume.
        OSError: a file could not be written; the last checkpoint is whole.
        WorldError: an environment failed.
        UnhealthyTrainingError: too much was left out of learning, or undone.
    """
    console = console or NullConsole()
    idle = measure_idle_power(cfg, console)
    with distributed.process_group(cfg.device):
        job, state = open_job(cfg, run_dir, console=console, control=control or RunControl())
        state = run_job(job, state, idle=idle)
    return state.metrics


def measure_idle_power(cfg: TrainConfig, console: Console) -> Interval | None:
    """Return the power of the idle machine before a job [W], None unless `energy.idle_s` asks for it."""
    if cfg.energy.idle_s:
        console.message(f"measuring idle power for {cfg.energy.idle_s:g} s")
    return idle_power(cfg.energy, cfg.device)


def _unwatched(close: Callable[[], None]) -> AbstractContextManager[None]:
    """Watch nothing: a library call must not end the process of its caller."""
    return nullcontext()


def run_job(
    job: TrainingJob,
    state: TrainState,
    *,
    idle: Interval | None = None,
    after: Sequence[Stage] = STAGES,
    watch: Callable[[Callable[[], None]], AbstractContextManager[None]] = _unwatched,
) -> TrainState:
    """Run an open job to its end and close it, also when it fails.

    Args:
        job: parts of the job.
        state: state to start from.
        idle: power before the run, for net energy [W].
        after: stages between training and report.
        watch: makes the context of training and stages, given a function that closes the job as failed; see
            `factory.training.watchdog.watching`.

    Returns:
        The last state.
    """
    # Until the end is reached, whatever happens is a failure; `finally` writes it down.
    status = "failed"
    is_trained = False
    try:
        with watch(lambda: close_job(job, state, "failed")):
            loop.start(job, state)
            while not loop.is_done(job, state):
                state = loop.iterate(job, state)
                loop.stop_if_unhealthy(job, state)
            loop.end(job, state)
            is_trained = True

            job.control.current = "stage, then skipping to the report"
            for stage in after:
                state = replace(state, is_interrupted=job.control.should_stop)
                if state.is_interrupted:
                    break
                require_folder(job)
                state = stage(job, state)
        # One process reports for all; the others have sent it their readings.
        if distributed.rank() == 0:
            state = stages.report(job, state, idle=idle)
        if state.is_interrupted:
            status = "interrupted"
        else:
            status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except Exception as error:
        if is_trained:
            error.add_note(
                f"The training is saved: mend this, then resume={job.run_dir} runs what is missing."
            )
        raise
    finally:
        close_job(job, state, status)
    return state
