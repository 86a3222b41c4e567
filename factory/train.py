"""Train a policy: `python -m factory.train task=... [key=value ...]`; `--help` lists all groups and keys."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from factory import cli, config, options
from factory.config import TrainConfig
from factory.reporting.console import NullConsole, open_console, print_summary
from factory.runtime import distributed
from factory.tracking import TrackingConfig
from factory.training.control import RunControl, stop_on_signals
from factory.training.job import open_job
from factory.training.run import measure_idle_power, run_job
from factory.training.run import train as train  # the library call: raises, prints nothing, never exits
from factory.training.stages import tracking_uri
from factory.training.state import TrainState
from factory.training.sweep import parent_run_id

options.register()


def train_from_command_line(cfg: TrainConfig, run_dir: Path) -> TrainState:
    """Train with a console, signal handlers and errors of one line."""
    console = open_console()
    control = RunControl()

    def announce() -> None:
        console.message(f"interrupted: finishing the {control.current}")

    idle = measure_idle_power(cfg, console)
    with distributed.process_group(cfg.device), stop_on_signals(control, announce):
        with cli.one_line_errors():
            job, state = open_job(
                cfg, run_dir, console=console, control=control, parent_run_id=parent_run_id()
            )
        with cli.one_line_faults(run_dir):
            state = run_job(job, state, idle=idle)
    print_summary(state.metrics, state.tags, run_dir, tracking_uri=tracking_uri(cfg))
    return state


def assist(cfg: TrainConfig) -> None:
    """Train as one of the processes beside rank 0, which tracks and saves for all."""
    cfg = replace(cfg, tracking=TrackingConfig(kind="null"))
    control = RunControl()
    with (
        _scratch_folder() as scratch,
        distributed.process_group(cfg.device),
        stop_on_signals(control, announce=lambda: None),
    ):
        with cli.one_line_errors():
            job, state = open_job(cfg, scratch, console=NullConsole(), control=control)
        with cli.one_line_faults(scratch):
            run_job(job, state, after=())


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Give a folder for what rank 0 keeps for all, and keep standard output to rank 0."""
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        yield Path(folder)


@hydra.main(version_base="1.3", config_path=str(options.CONF_DIR), config_name="train")
def _job(composed: DictConfig) -> float:
    state = train_from_command_line(config.from_hydra(composed), Path(HydraConfig.get().runtime.output_dir))
    if state.is_interrupted:
        raise SystemExit(130)
    return state.metrics.get("eval/return_mean", float("nan"))


def main() -> None:
    """Check the command line, then hand it to Hydra."""
    cli.show_warnings()
    with cli.one_line_errors():
        sys.argv[1:] = cli.validate_arguments(sys.argv[1:])
    if distributed.rank() == 0:
        _job()
    elif cfg := cli.worker_job(sys.argv[1:]):
        assist(cfg)


if __name__ == "__main__":
    main()
