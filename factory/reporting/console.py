"""Show a run while it happens, on a terminal or in a log, and the result at the end."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TextIO

import rich.console
from rich.text import Text

from factory.metric_keys import metric
from factory.reporting.formatting import (
    UNKNOWN,
    format_duration,
    format_metric,
    format_number,
    format_si,
    joules_per_token_text,
    phase_shares,
)
from factory.reporting.headlines import headlines, older_policy_note, share_bounds
from factory.reporting.live_panel import FIRST_ITERATION, LivePanel
from factory.reporting.progress import Clock, Eta, iteration_metrics, progress_text
from factory.runtime.awake_time import awake_s
from factory.runtime.stored_files import visible

StageProgress = Callable[[float], None]
"""Takes the share of a stage that is done."""
PATIENCE_S = 1.0
"""Seconds that a start-up or a check may take before something is shown of it."""
_NOT_IN_LINES = ("time/wall_s", "loss/learning_rate", "loss/explained_variance")
"""Metrics that only the panel has room for."""


class Console(Protocol):
    """Display of a run. Close it, also after an error, before anything else is printed."""

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Begin a training of `total_steps` env steps; an earlier run has done `start_steps` of them."""

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Show one iteration's metrics; seconds and joules are totals of the run."""

    def message(self, text: str) -> None:
        """Show one line and keep it visible."""

    def stage(self, name: str, *, after_s: float = 0.0) -> AbstractContextManager[StageProgress]:
        """Show that a stage other than training runs, how far it is, and its seconds when it is done.

        Args:
            name: the stage.
            after_s: seconds within which nothing is shown of it.
        """

    def close(self) -> None:
        """Show the last state and give the terminal back."""


def ignore_progress(share: float) -> None:
    """Show nothing of how far a stage is."""


class NullConsole:
    """Console that shows nothing, for jobs that run as a library call."""

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Show nothing."""

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Show nothing."""

    def message(self, text: str) -> None:
        """Show nothing."""

    def stage(self, name: str, *, after_s: float = 0.0) -> AbstractContextManager[StageProgress]:
        """Show nothing."""
        return nullcontext(ignore_progress)

    def close(self) -> None:
        """Have nothing to close."""


class PlainLines:
    """Console for logs: the first and the last iteration, and one line every `min_interval_s` between."""

    def __init__(
        self, *, file: TextIO | None = None, min_interval_s: float = 10.0, clock: Clock = awake_s
    ) -> None:
        """Print to `file`, standard output by default."""
        self._file = file or sys.stdout
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._eta = Eta(0, clock=clock)
        self._printed_s = -math.inf
        self._held: tuple[dict[str, float], str] | None = None

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Print the header."""
        self._eta = Eta(total_steps, clock=self._clock)
        self._printed_s = -math.inf
        self.message("  ".join(f"{key} {value}" for key, value in header.items()))
        if start_steps:
            self.message(f"resumed at {format_si(start_steps)} env steps")
        self.message(f"{FIRST_ITERATION} ...")

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Print one line if the last one is old enough, else hold it back."""
        step = metrics.get("factory/env_steps", 0.0)
        self._eta.mark(step)
        self._held = (metrics, tier)
        # The last iteration is printed however soon it comes.
        if self._clock() - self._printed_s >= self._min_interval_s or step >= self._eta.total_steps:
            self._print_held()

    def message(self, text: str) -> None:
        """Print one line; it may hold names from a stranger's file."""
        # In one piece, while `print` writes the end of the line by itself: the line about an interrupt, which
        # goes to another stream, must not come in between.
        self._file.write(visible(text) + "\n")
        self._file.flush()

    @contextmanager
    def stage(self, name: str, *, after_s: float = 0.0) -> Iterator[StageProgress]:
        """Print the stage's name, how far it is from time to time, and its seconds when it is done."""
        # The state of the training comes before the stage that follows it.
        self._print_held()
        start_s = self._clock()
        printed_s = start_s
        is_announced = False
        outcome = "failed after"

        def announce() -> None:
            nonlocal is_announced
            is_announced = True
            self.message(f"{name} ...")

        def report(share: float) -> None:
            nonlocal printed_s
            if self._clock() - printed_s >= self._min_interval_s:
                printed_s = self._clock()
                self.message(f"{name} {100 * min(share, 1.0):.0f} %")

        timer = threading.Timer(after_s, announce)
        timer.daemon = True
        if after_s:
            timer.start()
        else:
            announce()
        try:
            yield report
            outcome = "done in"
        finally:
            timer.cancel()
            if is_announced:
                self.message(f"{name} {outcome} {format_duration(self._clock() - start_s)}")

    def close(self) -> None:
        """Print the last iteration, if it was held back."""
        self._print_held()

    def _print_held(self) -> None:
        if self._held is None:
            return
        # Once printed, closing must not repeat it.
        metrics, tier = self._held
        self._held = None
        self._printed_s = self._clock()
        parts = [progress_text(metrics, self._eta)]
        for row in iteration_metrics(metrics, self._eta):
            for known, value in row:
                # A log line has no columns, so unknown values need no place.
                if value != UNKNOWN and known.key not in _NOT_IN_LINES:
                    parts.append(f"{known.short_label} {value}")
        parts.append(joules_per_token_text(metrics, tier))
        # All shares in one short group, such as sim/infer/learn/other 68/8/18/6 %.
        if shares := phase_shares(metrics):
            percentages = "/".join(f"{100 * share:.0f}" for share in shares.values())
            parts.append(f"{'/'.join(shares)} {percentages} %")
        self.message("  ".join(parts))


def open_console(*, interactive: bool | None = None) -> Console:
    """Return a live panel when standard output is a terminal that can redraw, else plain lines."""
    if interactive is None:
        # Not rich's is_terminal: FORCE_COLOR makes that true in the logs of a CI.
        interactive = sys.stdout.isatty() and not rich.console.Console().is_dumb_terminal
    if interactive:
        return LivePanel()
    return PlainLines()


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
        tags: Tags of the run; `energy.tier` is used.
        run_dir: Run folder; what is absent from it is not listed.
        tracking_uri: MLflow's store; the line that opens it is printed. None: not tracked by MLflow.
        file: Where to print, standard output by default.
    """
    rows: list[tuple[str, str]] = []
    for row in headlines(metrics, tags):
        text = row.value
        if row.note:
            text += f"  ({row.note})"
        rows.append((row.label, text))
    places = [("Report", run_dir / "report.html"), ("Checkpoint", run_dir / "checkpoints" / "last")]
    rows += [(label, str(path)) for label, path in places if path.exists()]
    # The newest video is last in the order of names, which hold the steps.
    for path in sorted((run_dir / "videos").glob("policy_*.mp4"))[-1:]:
        text = str(path)
        if note := older_policy_note(path, metrics):
            text += f"  ({note})"
        rows.append(("Video", text))
    if tracking_uri:
        opened_by = f"mlflow ui --backend-store-uri {tracking_uri}"
        if tracking_uri.startswith(("http:", "https:")):
            opened_by = tracking_uri
        rows.append(("MLflow", opened_by))
    console = rich.console.Console(file=file, highlight=False)
    console.print()
    for label, value in rows:
        console.print(Text.assemble((f"{label:<18}", "dim"), (visible(value), "bold")), soft_wrap=True)


def print_evaluation(metrics: Mapping[str, float], *, files: Mapping[str, Path]) -> None:
    """Print an evaluation's metrics, the return with its 95 % interval, and its files by their labels."""
    # The mean of one episode says nothing of the next.
    interval = "(a single episode: no interval)"
    if "eval/return_ci95" in metrics:
        interval = f"+- {format_number(metrics['eval/return_ci95'])} (95 % interval of the mean)"
    rows = [("Return", f"{format_number(metrics['eval/return_mean'])} {interval}")]
    for key, value in metrics.items():
        if key not in ("eval/return_mean", "eval/return_ci95"):
            known = metric(key)
            text = format_metric(known, value)
            if known.unit == "%":
                text += share_bounds(metrics, key)
            rows.append((known.label.partition(",")[0], text))
    rows += [(label, str(path)) for label, path in files.items()]
    console = rich.console.Console(highlight=False)
    for label, text in rows:
        console.print(Text.assemble((f"{label:<24}", "dim"), (visible(text), "bold")), soft_wrap=True)
