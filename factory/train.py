"""Train a policy: `python -m factory.train task=... [key=value ...]`; `--help` lists all groups and keys."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from factory import cli, options
from factory.config import TrainConfig
from factory.reporting.stream import steady_stdout
from factory.runtime import ranks
from factory.training import run_lock, sweep

if TYPE_CHECKING:
    from factory.reporting.console import Console
    from factory.training.control import RunControl
    from factory.training.state import TrainState

options.register()
_shown_notes: set[str] = set()
"""Notes that an earlier job of this process's sweep has shown."""


def train(
    cfg: TrainConfig, run_dir: Path, *, control: RunControl | None = None, console: Console | None = None
) -> dict[str, float]:
    """Train as a library call, see `factory.training.run.train`."""
    from factory.training.run import train as train_job

    return train_job(cfg, run_dir, control=control, console=console)


def train_from_command_line(cfg: TrainConfig, run_dir: Path) -> TrainState:
    """Train with a console, signal handlers and errors of one line."""
    from factory.reporting.console import open_console, print_summary
    from factory.runtime import distributed
    from factory.tracking.credentials import shown
    from factory.tracking.store import run_page
    from factory.training.control import RunControl, stop_on_signals
    from factory.training.job import open_job
    from factory.training.run import measure_idle_power, run_job
    from factory.training.stages import tracking_uri
    from factory.training.watchdog import watching

    console = open_console()
    control = RunControl()

    def announce() -> None:
        text = f"interrupted: finishing the {control.current}; go on later with resume={run_dir}"
        # Ctrl-C also ends what reads the output, `| tee log`, so only a terminal is sure to show the line. A
        # stream that was in the middle of a write when the signal came refuses another.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if sys.stdout.isatty():
                console.message(text)
            else:
                print(text, file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        stack.callback(console.close)
        with cli.one_line_errors():
            stack.enter_context(run_lock.locked(run_dir))
        idle = measure_idle_power(cfg, console)
        stack.enter_context(distributed.process_group(cfg.device))
        stack.enter_context(stop_on_signals(control, announce))
        with cli.one_line_errors():
            job, state = open_job(
                cfg, run_dir, console=console, control=control, parent_run_id=sweep.parent_run_id()
            )
        if sweep.is_running():
            job = replace(job, notes=tuple(note for note in job.notes if note not in _shown_notes))
            _shown_notes.update(job.notes)
        watch = partial(watching, run_dir, cfg.task.step_timeout_s)
        with cli.one_line_faults(run_dir):
            state = run_job(job, state, idle=idle, watch=watch)
    uri = tracking_uri(cfg)
    print_summary(state.metrics, state.tags, run_dir, tracking_uri=shown(uri) if uri else None)
    page = run_page(uri, job.tracker.run_id) if uri and job.tracker.run_id else None
    if page:
        print(f"MLflow page       {page}")
    return state


def assist(cfg: TrainConfig) -> None:
    """Train as one of the processes beside rank 0, which tracks and saves for all."""
    from factory.reporting.console import NullConsole
    from factory.runtime import distributed
    from factory.tracking import TrackingConfig
    from factory.training.control import RunControl, stop_on_signals
    from factory.training.job import open_job
    from factory.training.run import run_job
    from factory.training.watchdog import watching

    cfg = replace(cfg, tracking=TrackingConfig(kind="null"))
    control = RunControl()
    with (
        _scratch_folder() as scratch,
        distributed.process_group(cfg.device),
        stop_on_signals(control, announce=lambda: None),
    ):
        with cli.one_line_errors():
            job, state = open_job(cfg, scratch, console=NullConsole(), control=control)
        watch = partial(watching, scratch, cfg.task.step_timeout_s)
        with cli.one_line_faults(scratch):
            run_job(job, state, after=(), watch=watch)


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Give a folder for files that rank 0 keeps for all, and leave standard output to rank 0."""
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        yield Path(folder)


@hydra.main(version_base="1.3", config_path=str(options.CONF_DIR), config_name="train")
def _job(composed: DictConfig) -> float:
    """Run one job for Hydra; return its evaluation return, which sweepers maximise."""
    hydra_cfg = HydraConfig.get()
    cfg = cli.job_config(composed, list(hydra_cfg.overrides.task))
    try:
        # A reader of the output that goes away must not cost the run its checkpoint.
        with steady_stdout():
            state = train_from_command_line(cfg, Path(hydra_cfg.runtime.output_dir))
    except SystemExit:
        if not sweep.is_running():
            raise
        # The other jobs of the sweep go on; its exit status says that one failed.
        sweep.record_failure(hydra_cfg.job.num)
        return float("nan")
    if state.is_interrupted:
        raise SystemExit(130)
    return state.metrics.get("eval/return_mean", float("nan"))


def main() -> None:
    """Check the command line, then hand it to Hydra."""
    with cli.one_line_interrupts():
        _main()


def _main() -> None:
    cli.show_warnings()
    if cli.prints_version():
        return
    with cli.one_line_errors():
        sys.argv[1:] = cli.validate_arguments(sys.argv[1:])
    if {"--help", "-h"} & set(sys.argv[1:]):
        # Hydra would compose a configuration for every option first, which takes seconds.
        print(options.help_text())
        return
    if ranks.rank() > 0:
        if cfg := cli.worker_job(sys.argv[1:]):
            assist(cfg)
        return
    _job()
    if sweep.has_failed():
        raise SystemExit(1)


if __name__ == "__main__":
    main()
