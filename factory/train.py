"""Train a policy: `python -m factory.train task=... [key=value ...]`; `--help` lists what there is."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from factory import cli, config
from factory.config import TrainConfig
from factory.energy.idle import idle_power
from factory.energy.meter import Meter
from factory.reporting.console import print_summary
from factory.runtime import distributed
from factory.tracking import TrackingConfig
from factory.tracking.store import resolve_uri
from factory.training import stages as pipeline
from factory.training.job import Line
from factory.training.sweep import parent_run_id

config.register()


def train(cfg: TrainConfig, run_dir: Path) -> dict[str, float]:
    """Run one line from start to report and return its last metrics."""
    if cfg.energy.idle_s:
        print(f"sitting still for {cfg.energy.idle_s:g} s, to know the power before the run", flush=True)
    idle = idle_power(cfg.energy, cfg.device)
    with distributed.process_group(cfg.device):
        meter = Meter.from_config(cfg.energy, cfg.device)
        meter.start()
        with meter.phase("startup"), cli.one_line_errors():
            line = Line.open(cfg, run_dir, meter=meter, parent_run_id=parent_run_id())
        with cli.one_line_faults(run_dir), line:
            pipeline.train(line)
            pipeline.finish(line)
            pipeline.report(line, idle=idle)
    print_summary(line.metrics, line.tags, run_dir, tracking_uri=tracking_uri(cfg))
    if line.interrupted:
        raise SystemExit(130)
    return line.metrics


def assist(cfg: TrainConfig) -> None:
    """Train as one of the processes beside rank 0, which keeps ledger and checkpoints for all."""
    cfg = replace(cfg, tracking=TrackingConfig(kind="null"))
    with (
        distributed.process_group(cfg.device),
        TemporaryDirectory() as scratch,
        redirect_stdout(io.StringIO()),
    ):
        meter = Meter.from_config(cfg.energy, cfg.device)
        meter.start()
        with meter.phase("startup"), cli.one_line_errors():
            line = Line.open(cfg, Path(scratch), meter=meter)
        with cli.one_line_faults(Path(scratch)), line:
            pipeline.train(line)


def tracking_uri(cfg: TrainConfig) -> str | None:
    """Return where the run's ledger is, None where MLflow keeps none."""
    if cfg.tracking.kind != "mlflow":
        return None
    return resolve_uri(cfg.tracking, output_root=Path(cfg.output_root))


@hydra.main(version_base="1.3", config_path=str(config.CONF_DIR), config_name="train")
def _job(composed: DictConfig) -> float:
    metrics = train(config.from_hydra(composed), Path(HydraConfig.get().runtime.output_dir))
    return metrics.get("eval/return_mean", float("nan"))


def main() -> None:
    """Check the command line, then hand it to Hydra."""
    # The package is silent as a library; here warnings, such as a server that is away, are the user's: on stderr.
    for name in ("factory", "envs"):
        logging.getLogger(name).handlers = [logging.lastResort or logging.StreamHandler()]
    with cli.one_line_errors():
        sys.argv[1:] = cli.validate_arguments(sys.argv[1:])
    if distributed.rank() == 0:
        _job()
    elif cfg := cli.worker_job(sys.argv[1:]):
        assist(cfg)


if __name__ == "__main__":
    main()
