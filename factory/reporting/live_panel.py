"""Show a run on a terminal, in one panel that is redrawn."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.console
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from factory.reporting.formatting import format_duration, joules_per_token_text, phase_shares
from factory.reporting.progress import Clock, Eta, iteration_metrics, progress_text
from factory.runtime.awake_time import awake_s
from factory.runtime.stored_files import visible

PHASE_STYLES = {
    "sim": ("\u2588", "blue"),
    "infer": ("\u2593", "green"),
    "learn": ("\u2592", "yellow"),
    "other": ("\u2591", "bright_black"),
}
FIRST_ITERATION = "first iteration, compiling what is not cached"
_MAX_MESSAGES = 4
_REDRAW_S = 0.5


class _Activity:
    """Something that takes a while and reports nothing or little by itself, redrawn by a thread."""

    def __init__(self, name: str, *, start_s: float, draw: Callable[[], None], after_s: float = 0.0) -> None:
        """Redraw until `end`, for the first time after `after_s` seconds."""
        self.name = name
        self.start_s = start_s
        self.share = math.nan
        self._draw = draw
        self._after_s = after_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name=f"console-{name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop redrawing."""
        self._over.set()
        self._thread.join()

    def _redraw(self) -> None:
        if self._over.wait(self._after_s):
            return
        while not self._over.wait(_REDRAW_S):
            self._draw()


class LivePanel:
    """Console for a terminal: one panel, redrawn by the training thread and at most four times a second.

    rich's own refresh thread is off, because it would compete with the physics for the cores; a thread
    redraws only within a stage and the first iteration, which report nothing by themselves.
    """

    def __init__(
        self,
        *,
        console: rich.console.Console | None = None,
        min_interval_s: float = 0.25,
        clock: Clock = awake_s,
    ) -> None:
        """Draw on `console`, standard output by default."""
        self._console = console or rich.console.Console()
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._eta = Eta(0, clock=clock)
        self._drawn_s = -math.inf
        self._header: dict[str, str] = {}
        self._metrics: dict[str, float] = {}
        self._tier = ""
        self._messages: deque[str] = deque()
        self._activity: _Activity | None = None
        # Reentrant: a signal that comes while the main thread draws adds a message in the same thread.
        self._drawing = threading.RLock()
        self._live = Live(console=self._console, get_renderable=self._render, auto_refresh=False)

    def start(self, header: dict[str, str], total_steps: int, start_steps: int = 0) -> None:
        """Open the panel."""
        self._header = header
        self._eta = Eta(total_steps, clock=self._clock)
        self._metrics = {"factory/env_steps": float(start_steps)}
        self._begin(FIRST_ITERATION)
        self._draw()

    def update(self, metrics: dict[str, float], tier: str) -> None:
        """Take one iteration's metrics and redraw if the last drawing is old enough."""
        # With the first metrics, the first iteration is over.
        self._end_activity()
        self._metrics = metrics
        self._tier = tier
        self._eta.mark(metrics.get("factory/env_steps", 0.0))
        if self._clock() - self._drawn_s >= self._min_interval_s:
            self._draw()

    def message(self, text: str) -> None:
        """Show a line in the panel; older lines move to the terminal's history above it."""
        self._messages.append(f"{time.strftime('%H:%M:%S')}  {visible(text)}")
        # The panel keeps its height, and the terminal keeps every message.
        if len(self._messages) > _MAX_MESSAGES:
            self._console.print(Text(self._messages.popleft(), style="dim"))
        self._draw()

    @contextmanager
    def stage(self, name: str, *, after_s: float = 0.0) -> Iterator[Callable[[float], None]]:
        """Show the stage with its share and running seconds, and a message when it is done."""
        # One activity at a time: the panel has one line for it.
        self._end_activity()
        activity = self._begin(name, after_s=after_s)
        outcome = "failed after"

        def report(share: float) -> None:
            activity.share = share

        try:
            yield report
            outcome = "done in"
        finally:
            self._end_activity()
            seconds = self._clock() - activity.start_s
            if seconds >= after_s:
                self.message(f"{name} {outcome} {format_duration(seconds)}")

    def close(self) -> None:
        """Draw the last state and leave it on the terminal."""
        self._end_activity()
        self._live.stop()

    def _begin(self, name: str, *, after_s: float = 0.0) -> _Activity:
        self._activity = _Activity(name, start_s=self._clock(), draw=self._draw, after_s=after_s)
        return self._activity

    def _end_activity(self) -> None:
        if self._activity is not None:
            self._activity.end()
            self._activity = None

    def _draw(self) -> None:
        # The thread of an activity may draw while a message is added.
        with self._drawing:
            self._live.start()
            self._live.refresh()
            self._drawn_s = self._clock()

    def _render(self) -> RenderableType:
        """Build the panel of plain lines: rich's tables would take several times as long to draw."""
        width = max(self._console.width - 4, 20)  # inside of border and padding
        # Stages before the training have no header yet.
        lines: list[Text] = []
        if self._header:
            lines += [*self._header_lines(width), Text(), self._progress(width), Text()]
            lines += [*self._columns(width), Text(), *self._energy_and_time(width)]
        if self._messages or self._activity:
            lines += [Text(), *map(Text, list(self._messages))]
        if self._activity:
            lines.append(self._activity_line(self._activity))
        body = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        title = Text(self._header.get("task", "factory"), style="bold")
        return Panel(body, title=title, title_align="left", border_style="cyan", padding=(0, 1))

    def _activity_line(self, activity: _Activity) -> Text:
        spin = "|/-\\"[int(2 * self._clock()) % 4]
        share = ""
        if math.isfinite(activity.share):
            share = f"{100 * min(activity.share, 1.0):.0f} %  "
        seconds = format_duration(self._clock() - activity.start_s)
        return Text.assemble((f"{spin} {activity.name} ", "bold cyan"), share, (seconds, "dim"))

    def _header_lines(self, width: int) -> list[Text]:
        """Return the header's pairs, broken only between pairs."""
        lines = [Text()]
        for key, value in self._header.items():
            # The task is the title of the panel.
            if key == "task":
                continue
            pair = Text.assemble((f"{key} ", "dim"), f"{value}  ")
            if len(lines[-1]) + len(pair) > width + 2:
                lines.append(Text())
            lines[-1].append_text(pair)
        return lines

    def _progress(self, width: int) -> Text:
        """Return the bar and, right of it, steps, share and time left."""
        # The bar takes whatever width the numbers leave.
        text = f"  {progress_text(self._metrics, self._eta)}"
        size = max(width - len(text), 0)
        done = int(self._eta.share(self._metrics.get("factory/env_steps", 0.0)) * size)
        return Text.assemble(("\u2501" * done, "cyan"), ("\u2500" * (size - done), "bright_black"), text)

    def _columns(self, width: int) -> list[Text]:
        """Return the metrics in three columns: learning, throughput, losses."""
        lines: list[Text] = []
        # The middle column holds two speeds and gets what the outer ones do not need.
        outer = (width - 6) * 3 // 10
        widths = (outer, width - 6 - 2 * outer, outer)
        for row in iteration_metrics(self._metrics, self._eta):
            line = Text()
            # A row without a success rate keeps its columns.
            first = len(widths) - len(row)
            line.append(" " * sum(size + 3 for size in widths[:first]))
            for number, (known, value) in enumerate(row):
                if number:
                    line.append("   ")
                label = known.short_label
                size = max(widths[first + number] - len(label), 1)
                line.append(label, style="dim").append(f"{value:>{size}}", style="bold")
            lines.append(line)
        return lines

    def _energy_and_time(self, width: int) -> list[Text]:
        """Return the line of joules, the bar of phase shares and its legend."""
        energy = joules_per_token_text(self._metrics, self._tier)
        bar = Text()
        legend = Text()
        filled = 0.0
        start = 0
        for phase, share in phase_shares(self._metrics).items():
            fill, style = PHASE_STYLES[phase]
            filled += share
            # Ends are rounded, not lengths, so that the pieces fill the width exactly.
            end = round(min(filled, 1.0) * width)
            bar.append(fill * (end - start), style=style)
            legend.append(f"{fill} ", style=style).append(f"{phase} {100 * share:.0f} %   ")
            start = end
        return [Text.assemble(("energy  ", "dim"), (energy, "bold")), bar, legend]
