"""Show a run while it happens: one live panel on a terminal, single lines in a log, the result at the end."""

from __future__ import annotations

import math
import sys
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TextIO

import rich.console
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from factory.quantities import (
    format_duration,
    format_number,
    format_percent,
    format_si,
    headlines,
    joules_per_token_text,
    phase_shares,
)

Clock = Callable[[], float]
PHASE_STYLES = {
    "sim": ("\u2588", "blue"),
    "infer": ("\u2593", "green"),
    "learn": ("\u2592", "yellow"),
    "other": ("\u2591", "bright_black"),
}


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


class Pace:
    """Time left, from the pace over the latter half of the iterations so far.

    The first mark is the end of the first iteration, so start-up and compilation never count. Half of the run
    is long enough to hold its share of evaluations and checkpoints, and follows a machine that slows down.
    """

    def __init__(self, total_steps: int, *, clock: Clock) -> None:
        """Start with no marks, `total_steps` env steps ahead."""
        self.total_steps = total_steps
        self._clock = clock
        self._times_s: list[float] = []
        self._steps: list[float] = []

    def mark(self, step: float) -> None:
        """Note that `step` env steps are done now."""
        if len(self._times_s) >= 1024:  # thin out: a bounded list, whatever the length of the run
            del self._times_s[1::2], self._steps[1::2]
        self._times_s.append(self._clock())
        self._steps.append(step)

    def eta_s(self) -> float:
        """Return the seconds of training left, nan while two iterations have not passed."""
        if len(self._times_s) < 2:
            return math.nan
        now_s, step = self._times_s[-1], self._steps[-1]
        middle = bisect_left(self._times_s, (self._times_s[0] + now_s) / 2, hi=len(self._times_s) - 2)
        done = step - self._steps[middle]
        if done <= 0:
            return math.nan
        return max(0.0, self.total_steps - step) * (now_s - self._times_s[middle]) / done

    def text(self) -> str:
        """Return `ETA 3 min 05 s`, or that it is not known yet, or that all is done."""
        if self._steps and self._steps[-1] >= self.total_steps:
            return "done"
        eta_s = self.eta_s()
        return f"ETA {format_duration(eta_s)}" if math.isfinite(eta_s) else "ETA unknown yet"


def _progress_text(metrics: Mapping[str, float], pace: Pace) -> str:
    step = metrics.get("factory/env_steps", 0.0)
    share = math.floor(100.0 * step / max(pace.total_steps, 1))
    return f"{format_si(step)} / {format_si(pace.total_steps)} env steps ({share} %)  {pace.text()}"


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
            for label, value in _figures(metrics)
            if value != "-" and label not in ("wall time", "learning rate", "explained var")
        ]
        shares = phase_shares(metrics)
        split = f"{'/'.join(shares)} {'/'.join(f'{100 * share:.0f}' for share in shares.values())} %"
        energy = joules_per_token_text(metrics, tier)
        parts = [_progress_text(metrics, self._pace), *figures, energy, *([split] if shares else [])]
        self.message("  ".join(parts))


def _figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the figures of one iteration, in rows of learning, throughput, losses; `-` where unknown."""

    def get(key: str) -> float:
        return metrics.get(key, math.nan)

    return [
        ("return", format_number(get("train/return_mean"))),
        ("env-steps/s", format_si(get("factory/env_steps_per_s"))),
        ("approx_kl", format_number(get("loss/approx_kl"))),
        ("episode length", format_number(get("train/episode_length_mean"))),
        ("tokens/s", format_si(get("factory/tokens_per_s"))),
        ("learning rate", format_number(get("loss/learning_rate"))),
        ("success", format_percent(get("train/success_rate"))),
        ("wall time", format_duration(get("time/wall_s"))),
        ("explained var", format_number(get("loss/explained_variance"))),
    ]


class LivePanel:
    """Console for a terminal: one panel, redrawn by the training thread and at most four times a second.

    rich's own refresh thread is off, because it would compete with the physics for the cores; a thread
    redraws only within a stage, which reports nothing by itself.
    """

    def __init__(
        self,
        *,
        console: rich.console.Console | None = None,
        min_interval_s: float = 0.25,
        clock: Clock = time.monotonic,
    ) -> None:
        """Draw on `console`, standard output by default."""
        self._console = console or rich.console.Console()
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._pace = Pace(0, clock=clock)
        self._drawn_s = -math.inf
        self._header: dict[str, str] = {}
        self._metrics: dict[str, float] = {}
        self._tier = ""
        self._messages: deque[str] = deque()
        self._stage: tuple[str, float] | None = None
        self._live = Live(console=self._console, get_renderable=self._render, auto_refresh=False)

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Open the panel."""
        self._header = header
        self._pace = Pace(total_steps, clock=self._clock)
        self._metrics = {"factory/env_steps": float(start_steps)}
        self._draw()

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Take one iteration's metrics and redraw if the last drawing is old enough."""
        self._metrics, self._tier = metrics, tier
        self._pace.mark(metrics.get("factory/env_steps", 0.0))
        if self._clock() - self._drawn_s >= self._min_interval_s:
            self._draw()

    def message(self, text: str) -> None:
        """Show a line in the panel; older lines move to the terminal's history above it."""
        self._messages.append(f"{time.strftime('%H:%M:%S')}  {text}")
        if len(self._messages) > 4:
            self._console.print(Text(self._messages.popleft(), style="dim"))
        self._draw()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the stage with its running seconds, and a message when it is done."""
        start_s, outcome, over = self._clock(), "failed after", threading.Event()
        self._stage = (name, start_s)

        def redraw() -> None:
            while not over.wait(0.5):
                self._draw()

        thread = threading.Thread(target=redraw, name=f"console-{name}", daemon=True)
        thread.start()
        try:
            yield
            outcome = "done in"
        finally:
            over.set()
            thread.join()
            self._stage = None
            self.message(f"{name} {outcome} {format_duration(self._clock() - start_s)}")

    def close(self) -> None:
        """Draw the last state and leave it on the terminal."""
        self._live.stop()

    def _draw(self) -> None:
        self._live.start()
        self._live.refresh()
        self._drawn_s = self._clock()

    def _render(self) -> RenderableType:
        """Build the panel of plain lines: rich's tables would take several times as long to draw."""
        width = max(self._console.width - 4, 20)  # inside of border and padding
        lines: list[Text] = []
        if self._header:
            lines += [
                *self._header_lines(width),
                Text(),
                self._progress(width),
                Text(),
                *self._columns(width),
            ]
            lines += [Text(), *self._energy_and_time(width)]
        if self._messages or self._stage:
            lines += [Text(), *map(Text, self._messages)]
        if self._stage:
            name, start_s = self._stage
            spin = "|/-\\"[int(2 * self._clock()) % 4]
            seconds = format_duration(self._clock() - start_s)
            lines.append(Text.assemble((f"{spin} {name} ", "bold cyan"), (seconds, "dim")))
        body = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        title = Text(self._header.get("task", "factory"), style="bold")
        return Panel(body, title=title, title_align="left", border_style="cyan", padding=(0, 1))

    def _header_lines(self, width: int) -> list[Text]:
        """Return the header's pairs, broken only between pairs."""
        lines = [Text()]
        for key, value in self._header.items():
            if key == "task":  # it is the title
                continue
            pair = Text.assemble((f"{key} ", "dim"), f"{value}  ")
            if len(lines[-1]) + len(pair) > width + 2:
                lines.append(Text())
            lines[-1].append_text(pair)
        return lines

    def _progress(self, width: int) -> Text:
        """Return the bar and, right of it, steps, share and time left."""
        text = f"  {_progress_text(self._metrics, self._pace)}"
        size = max(width - len(text), 0)
        share = self._metrics.get("factory/env_steps", 0.0) / max(self._pace.total_steps, 1)
        done = min(int(share * size), size)
        return Text.assemble(("\u2501" * done, "cyan"), ("\u2500" * (size - done), "bright_black"), text)

    def _columns(self, width: int) -> list[Text]:
        """Return the figures in three columns: learning, throughput, losses."""
        lines = [Text(), Text(), Text()]
        column = (width - 6) // 3
        for index, (label, value) in enumerate(_figures(self._metrics)):
            gap = "" if index % 3 == 0 else "   "
            line = lines[index // 3].append(gap + label, style="dim")
            line.append(f"{value:>{max(column - len(label), 1)}}", style="bold")
        return lines

    def _energy_and_time(self, width: int) -> list[Text]:
        """Return the line of joules, the bar of phase shares and its legend."""
        energy = joules_per_token_text(self._metrics, self._tier)
        bar, legend = Text(), Text()
        filled, start = 0.0, 0
        for phase, share in phase_shares(self._metrics).items():
            fill, style = PHASE_STYLES[phase]
            filled += share
            end = round(min(filled, 1.0) * width)
            bar.append(fill * (end - start), style=style)
            legend.append(f"{fill} ", style=style).append(f"{phase} {100 * share:.0f} %   ")
            start = end
        return [Text.assemble(("energy  ", "dim"), (energy, "bold")), bar, legend]


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
    rows = [(row.label, f"{row.value}  ({row.note})" if row.note else row.value) for row in headlines(metrics, tags)]
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
    interval = f"+- {format_number(metrics['eval/return_ci95'])} (95 % interval of the mean)"
    rows = [("Return", f"{format_number(metrics['eval/return_mean'])} {interval}")]
    for key, value in metrics.items():
        if key not in ("eval/return_mean", "eval/return_ci95"):
            rows.append((key.removeprefix("eval/"), format_number(value)))
    rows.append(("written to", str(run_dir / "evaluation.json")))
    console = rich.console.Console(highlight=False)
    for label, text in rows:
        console.print(Text.assemble((f"{label:<24}", "dim"), (text, "bold")), soft_wrap=True)
