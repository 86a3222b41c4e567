"""Show a run while it happens, on a terminal or in a log, and the result at the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TextIO

import rich.console
from rich.text import Text

from factory.reporting.formatting import (
    format_duration,
    format_number,
    format_si,
    headlines,
    joules_per_token_text,
    phase_shares,
)
from factory.reporting.live_panel import LivePanel
from factory.reporting.progress import Clock, Pace, iteration_figures, progress_text


class Console(Protocol):
    """What a run says while it happens. Close it, also after an error, before anything else is printed."""

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Begin a training of `total_steps` env steps, `start_steps` of which an earlier run has done."""

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Show one iteration's metrics; seconds and joules are totals of the run."""

    def message(self, text: str) -> None:
        """Show one line and keep it visible."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Show that a stage other than training runs, and its seconds when it is done."""

    def close(self) -> None:
        """Show the last state and give the terminal back."""


class NullConsole:
    """Console that shows nothing, for jobs that run as a library call."""

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Show nothing."""

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Show nothing."""

    def message(self, text: str) -> None:
        """Show nothing."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Show nothing."""
        return nullcontext()

    def close(self) -> None:
        """Have nothing to close."""


class PlainLines:
    """Console for logs: the first and the last iteration, and one line every `min_interval_s` between."""

    def __init__(
        self, *, file: TextIO | None = None, min_interval_s: float = 10.0, clock: Clock = time.monotonic
    ) -> None:
        """Print to `file`, standard output by default."""
        self._file = file or sys.stdout
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._pace = Pace(0, clock=clock)
        self._printed_s = -math.inf
        self._held: tuple[dict[str, float], str] | None = None

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Print the header."""
        self._pace = Pace(total_steps, clock=self._clock)
        self._printed_s = -math.inf
        self.message("  ".join(f"{key} {value}" for key, value in header.items()))
        if start_steps:
            self.message(f"resumed at {format_si(start_steps)} env steps")

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Print one line if the last one is old enough, else hold it back."""
        step = metrics.get("factory/env_steps", 0.0)
        self._pace.mark(step)
        self._held = (metrics, tier)
        if self._clock() - self._printed_s >= self._min_interval_s or step >= self._pace.total_steps:
            self._print_held()

    def message(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._file, flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Print the stage's name and seconds when it is done."""
        self._print_held()
        start_s, outcome = self._clock(), "failed after"
        try:
            yield
            outcome = "done in"
        finally:
            self.message(f"{name} {outcome} {format_duration(self._clock() - start_s)}")

    def close(self) -> None:
        """Print the last iteration, if it was held back."""
        self._print_held()

    def _print_held(self) -> None:
        if self._held is None:
            return
        metrics, tier = self._held
        self._held, self._printed_s = None, self._clock()
        figures = [
            f"{label} {value}"
            for label, value in iteration_figures(metrics)
            if value != "-" and label not in ("wall time", "learning rate", "explained var")
        ]
        shares = phase_shares(metrics)
        split = f"{'/'.join(shares)} {'/'.join(f'{100 * share:.0f}' for share in shares.values())} %"
        energy = joules_per_token_text(metrics, tier)
        parts = [progress_text(metrics, self._pace), *figures, energy, *([split] if shares else [])]
        self.message("  ".join(parts))


def open_console(*, interactive: bool | None = None) -> Console:
    """Return a live panel when standard output is a terminal that can redraw, else plain lines."""
    if interactive is None:  # not rich's is_terminal: FORCE_COLOR makes that true in the logs of a CI
        interactive = sys.stdout.isatty() and not rich.console.Console().is_dumb_terminal
    return LivePanel() if interactive else PlainLines()


def print_summary(
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    run_dir: Path,
    *,
    tracking_uri: str | None = None,
    file: TextIO | None = None,
) -> None:
    """Print the result of a run and where everything is.

    Args:
        metrics: Last value of every metric.
        tags: Tags of the run, of which `energy.tier` is used.
        run_dir: Run folder; what is absent from it is not listed.
        tracking_uri: MLflow's store; the line that opens it is printed. None: not tracked by MLflow.
        file: Where to print, standard output by default.
    """
    rows = [
        (row.label, f"{row.value}  ({row.note})" if row.note else row.value)
        for row in headlines(metrics, tags)
    ]
    videos = sorted((run_dir / "videos").glob("*.mp4"))
    places = {"Report": run_dir / "report.html", "Checkpoint": run_dir / "checkpoints" / "last"}
    places |= {"Video": videos[-1]} if videos else {}
    rows += [(label, str(path)) for label, path in places.items() if path.exists()]
    if tracking_uri:
        remote = tracking_uri.startswith(("http:", "https:"))
        rows.append(("MLflow", tracking_uri if remote else f"mlflow ui --backend-store-uri {tracking_uri}"))
    console = rich.console.Console(file=file, highlight=False)
    console.print()
    for label, value in rows:
        console.print(Text.assemble((f"{label:<18}", "dim"), (value, "bold")), soft_wrap=True)


def print_evaluation(metrics: Mapping[str, float], run_dir: Path) -> None:
    """Print an evaluation's figures, the return with its 95 % interval, and where they were written."""
    interval = "(a single episode: no interval)"
    if "eval/return_ci95" in metrics:
        interval = f"+- {format_number(metrics['eval/return_ci95'])} (95 % interval of the mean)"
    rows = [("Return", f"{format_number(metrics['eval/return_mean'])} {interval}")]
    for key, value in metrics.items():
        if key not in ("eval/return_mean", "eval/return_ci95"):
            rows.append((key.removeprefix("eval/"), format_number(value)))
    rows.append(("written to", str(run_dir / "evaluation.json")))
    console = rich.console.Console(highlight=False)
    for label, text in rows:
        console.print(Text.assemble((f"{label:<24}", "dim"), (text, "bold")), soft_wrap=True)
