"""Measure how fast a task trains on this machine, and what slows it down.

usage: python -m factory.bench [task=...] [num_envs=256,1024] [seconds=0.5] [repeats=5]
                               [out=FILE.json] [track=true]
                               [any group=option or key=value of factory.train]

  num_envs  numbers of worlds, in a list; default 64,256,1024 on a CPU and 1024,4096,16384 with device=cuda
  seconds   shortest time of every level in a round: raw physics, env.step, + policy, + learn
  repeats   number of rounds; results are medians over them
  out       JSON file for the results, their samples, the machine and the versions
  track     also make an MLflow run, in the experiment `bench`

Examples:
  python -m factory.bench task=cartpole_swingup
  python -m factory.bench task=quadruped_velocity num_envs=256,1024,4096 out=bench.json
  python -m factory.bench task=quadruped_velocity num_envs=1024 physics.num_threads=1 runtime.torch_threads=1
  python -m factory.bench robot=menagerie:unitree_go1 policy.actor_hidden=[512,256,128] seconds=2 repeats=9

What the columns mean: docs/bench.md. Every key of factory.train: python -m factory.train --cfg job
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
from rich.live import Live
from rich.text import Text

from factory import cli, options
from factory.config import TrainConfig, label, to_plain
from factory.runtime import provenance
from factory.runtime.atomic_write import atomic_write
from factory.tracking import open_tracker
from factory.tracking.credentials import redacted
from factory.validation import require

if TYPE_CHECKING:
    from factory.benchmark.throughput import Progress, Row

SCHEMA = "factory.bench/1"
"""Version of the JSON file's layout; it changes when a key changes its meaning or goes."""
SIZES = {"cpu": [64, 256, 1024], "cuda": [1024, 4096, 16384]}
"""Numbers of worlds by device, unless given."""
_LONGEST_S = 3600.0
"""Longest time of a level in a round [s]."""


@dataclass(kw_only=True)
class BenchConfig:
    """Settings of the measurement, besides the training job."""

    num_envs: list[int] = field(default_factory=list)
    """Numbers of worlds; empty takes those of the device."""
    seconds: float = 0.5
    """Shortest time for which every level runs in a round [s]."""
    repeats: int = 5
    """Rounds."""
    out: str = ""
    """JSON file to write; empty writes none."""
    track: bool = False
    """Log a run to the experiment tracker that `tracking` names."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        is_time = 0 < self.seconds <= _LONGEST_S
        require(is_time, "seconds", self.seconds, f"must be positive and at most {_LONGEST_S:g}")
        require(self.repeats >= 1, "repeats", self.repeats, "must be at least 1")
        require(not Path(self.out).is_dir() or not self.out, "out", self.out, "is a folder; name a file")


def parse(arguments: Sequence[str]) -> tuple[BenchConfig, TrainConfig]:
    """Return the settings of the measurement and the training job; nothing is written yet.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    # Arguments of both configurations come mixed: those with a key of the measurement, and the job's.
    keys = {entry.name for entry in dataclasses.fields(BenchConfig)}
    is_own = [argument.startswith("-") or argument.partition("=")[0] in keys for argument in arguments]
    own = [_bracketed(argument) for argument, mine in zip(arguments, is_own, strict=True) if mine]
    settings = cli.parse(BenchConfig, own)
    cfg = cli.single_job([argument for argument, mine in zip(arguments, is_own, strict=True) if not mine])
    settings.num_envs = settings.num_envs or SIZES[cfg.device]
    # Building a configuration checks it: a size that does not fit fails before the first one is measured.
    for size in settings.num_envs:
        dataclasses.replace(cfg, num_envs=size)
    if settings.out:
        cli.check_writable(Path(settings.out).absolute().parent, key="out")
    if settings.track:
        cli.check_writable(Path(cfg.output_root), key="output_root")
    return settings, cfg


def _bracketed(argument: str) -> str:
    """Let a list be given as `num_envs=256,1024`."""
    key, _, value = argument.partition("=")
    if key == "num_envs" and value and value[0] != "[":
        return f"{key}=[{value}]"
    return argument


def document(
    rows: Sequence[Row], settings: BenchConfig, cfg: TrainConfig, *, measured_on: dict[str, Any]
) -> dict[str, Any]:
    """Return the rows as plain values, with all facts needed to judge or repeat them."""
    return {
        "schema": SCHEMA,
        "command": redacted(shlex.join(["python", "-m", "factory.bench", *sys.argv[1:]])),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance.git_tags(),
        "machine": measured_on,
        "versions": provenance.versions(),
        "settings": dataclasses.asdict(settings),
        "config": to_plain(cfg) | {"num_envs": settings.num_envs},
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def write(content: dict[str, Any], path: Path) -> None:
    """Write the document atomically; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def track(content: dict[str, Any], rows: Sequence[Row], cfg: TrainConfig) -> Path:
    """Log a run whose steps are the numbers of environments; return its folder."""
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{cfg.seed}"
    run_dir = Path(cfg.output_root) / "bench" / label(cfg) / name
    write(content, run_dir / "bench.json")
    # The energy source is the same for all rows.
    energy = rows[0].energy
    import torch

    from factory.runtime import device

    tracker = open_tracker(
        dataclasses.replace(cfg.tracking, system_metrics=False),
        run_dir=run_dir,
        output_root=Path(cfg.output_root).absolute(),
        experiment="bench",
        run_name=f"{label(cfg)}_{name}",
        params=content["config"],
        tags={
            "task": label(cfg),
            "physics": cfg.physics.name,
            "device": device.describe(torch.device(cfg.device)),
            "token_spec.hash": energy.token_spec,
            "energy.tier": energy.tier,
            "energy.boundary": energy.boundary,
            **provenance.git_tags(),
        },
    )
    # With sizes as steps, the tracker's charts show speed over the number of environments.
    for row in rows:
        tracker.log(metrics(row), step=row.num_envs)
    tracker.log_artifacts(run_dir / "bench.json")
    tracker.close()
    return run_dir


def metrics(row: Row) -> dict[str, float]:
    """Return the metrics of a row."""
    # Keys of training where the quantity is the same, so that both appear in one chart.
    found: dict[str, float | None] = {
        "factory/tokens_per_s": row.tokens_per_s,
        "factory/joules_per_token": row.energy.joules_per_token,
        "factory/cpu_s_per_token": row.energy.cpu_s_per_token,
        "bench/joules_per_token_lo": row.energy.joules_per_token_lo,
        "bench/joules_per_token_hi": row.energy.joules_per_token_hi,
        "bench/rss_bytes": row.rss_bytes,
    }
    for name, level in row.levels.items():
        found |= {
            f"bench/{name}_steps_per_s": level.steps_per_s,
            f"bench/{name}_cold_steps_per_s": level.cold_steps_per_s,
            f"bench/{name}_ratio_to_raw": level.ratio_to_raw,
        }
    return {key: value for key, value in found.items() if value is not None}


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Show the progress on stderr: one changing line on a terminal, one line for each size in a log."""
    console = rich.console.Console(stderr=True)
    # Redrawn between the stages only: a thread that redraws would take time from what is measured.
    live = Live(console=console, auto_refresh=False, transient=True)
    shown: set[int] = set()

    def show(num_envs: int, stage: str) -> None:
        if console.is_terminal:
            live.update(Text(f"{num_envs:,} worlds: {stage}", style="cyan"), refresh=True)
        elif num_envs not in shown:
            console.print(f"measuring {num_envs:,} worlds", highlight=False)
        shown.add(num_envs)

    with live:
        yield show


def main() -> None:
    """Measure the training job of the command line."""
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    options.register()
    with cli.one_line_errors():
        settings, cfg = parse(sys.argv[1:])

    # Only a job that passed the checks is worth the seconds in which torch is loaded.
    from factory.benchmark.bench_table import print_rows
    from factory.benchmark.throughput import bench
    from factory.runtime import device, hardware

    device.set_up(cfg.runtime.torch_threads, precision=cfg.policy.precision)
    # Before measuring, so that the load on record is that of others.
    measured_on = hardware.describe()
    sizes = settings.num_envs
    seconds = settings.seconds
    repeats = settings.repeats
    try:
        with _progress() as progress:
            rows = bench(cfg, sizes=sizes, seconds=seconds, repeats=repeats, progress=progress)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print_rows(rows, rich.console.Console(highlight=False))
    content = document(rows, settings, cfg, measured_on=measured_on)
    if settings.out:
        write(content, Path(settings.out))
        print(f"results  {settings.out}")
    if settings.track:
        with cli.one_line_errors():
            print(f"tracked  {track(content, rows, cfg)}")


if __name__ == "__main__":
    main()
