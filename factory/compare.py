"""Compare runs: metrics with intervals over seeds, learning curves, and the cost of a return.

usage: python -m factory.compare run=<folder of a run or of runs | MLflow run id | last | last-sweep> [...]
       python -m factory.compare query="<MLflow filter>" [experiment=<task>] [uri=<MLflow store>]
       [force=true] [out=outputs/compare/<date>_<time>] [output_root=outputs]

Runs that differ only in the seed make a group. Runs of different tasks, token specs or energy boundaries are
refused unless force=true. Writes compare.json, compare.html, pareto.png and learning.png.

examples: python -m factory.compare run=last-sweep
          python -m factory.compare run=outputs/cartpole_swingup/sweep_2026-11-22_10-00-00
          python -m factory.compare experiment=cartpole_swingup query='metrics.`eval/return_mean` > 100'
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from factory import cli
from factory.comparison.result import Comparison, compare_runs
from factory.comparison.runs import ComparedRun, query_runs, select_runs
from factory.comparison.table import print_table
from factory.runtime.strict_json import nan_to_none
from factory.tracking import TrackingConfig
from factory.tracking.credentials import redacted
from factory.tracking.uri import resolve_uri
from factory.validation import require


@dataclass(kw_only=True)
class CompareConfig:
    """Selection of the runs, and the folder of the results."""

    run: list[str] = field(default_factory=list)
    """Run folders, folders that hold run folders, MLflow run ids, `last` or `last-sweep`; given as `run=`
    several times.
    """
    query: str = ""
    """MLflow filter, instead of `run`; empty takes every run of the experiment."""
    experiment: str = ""
    """MLflow experiment of the query; empty searches all."""
    uri: str = ""
    """MLflow store of the query; empty means the one under `output_root`."""
    force: bool = False
    """Compare runs of different tasks, token specs or energy boundaries nevertheless."""
    out: str = ""
    """Folder to write to; empty means `<output_root>/compare/<date>_<time>`."""
    output_root: str = "outputs"
    """Folder of the runs and of the MLflow store."""


def parse(arguments: Sequence[str]) -> CompareConfig:
    """Return the settings; `run=` may be given several times.

    Raises:
        ValueError, OmegaConfBaseException: an argument is wrong, or neither or both of run and query are
            given.
    """
    # The parser of settings takes every key once only.
    names = [argument.removeprefix("run=") for argument in arguments if argument.startswith("run=")]
    cfg = cli.parse(CompareConfig, [argument for argument in arguments if not argument.startswith("run=")])
    cfg.run = names
    require(not (names and cfg.query), "query", cfg.query, "give run=... or query=..., not both")
    remedy = (
        "name run folders, a folder of runs, MLflow run ids, last or last-sweep; or give query=... or "
        "experiment=..."
    )
    require(bool(names or cfg.query or cfg.experiment), "run", "", remedy)
    return cfg


def select(cfg: CompareConfig) -> list[ComparedRun]:
    """Return the runs that were asked for.

    Raises:
        ValueError: There are none.
    """
    output_root = Path(cfg.output_root)
    if cfg.run:
        return select_runs(cfg.run, output_root=output_root)
    uri = resolve_uri(TrackingConfig(uri=cfg.uri), output_root=output_root)
    return query_runs(cfg.query, experiment=cfg.experiment, uri=uri)


def write(comparison: Comparison, out: Path) -> None:
    """Write `compare.json`, `compare.html` and the charts as PNG."""
    # Matplotlib is loaded once there is something to draw.
    from factory.comparison import charts
    from factory.comparison.page import write_page

    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(
        json.dumps(nan_to_none(comparison.as_plain()), indent=1, allow_nan=False)
    )
    charts.write_png(charts.cost_charts(comparison, charts.PNG_COSTS), comparison, out / "pareto.png")
    # Runs that logged no iteration have no curves.
    learning = charts.learning_charts(comparison)
    if learning:
        charts.write_png(learning[:2], comparison, out / "learning.png")
    write_page(
        comparison,
        out / "compare.html",
        command=redacted(shlex.join(["python", "-m", "factory.compare", *sys.argv[1:]])),
    )


def main() -> None:
    """Compare what the command line names."""
    if cli.prints_info(__doc__):
        return
    with cli.one_line_errors():
        cfg = parse(sys.argv[1:])
        comparison = compare_runs(select(cfg), force=cfg.force)
        out = Path(cfg.out or Path(cfg.output_root) / "compare" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
        # Before the work, so that a folder without permission is one line.
        cli.check_writable(out, key="out")
    write(comparison, out)
    print_table(comparison)
    print(f"written to {out}: compare.html, compare.json and charts as PNG")


if __name__ == "__main__":
    main()
