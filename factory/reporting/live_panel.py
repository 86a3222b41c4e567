"""Show a run on a terminal, in one panel that is redrawn."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import rich.console
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from factory.reporting.formatting import format_duration, joules_per_token_text, phase_shares
from factory.reporting.progress import Clock, Pace, iteration_figures, progress_text

PHASE_STYLES = {
    "sim": ("\u2588", "blue"),
    "infer": ("\u2593", "green"),
    "learn": ("\u2592", "yellow"),
    "other": ("\u2591", "bright_black"),
}


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
        text = f"  {progress_text(self._metrics, self._pace)}"
        size = max(width - len(text), 0)
        share = self._metrics.get("factory/env_steps", 0.0) / max(self._pace.total_steps, 1)
        done = min(int(share * size), size)
        return Text.assemble(("\u2501" * done, "cyan"), ("\u2500" * (size - done), "bright_black"), text)

    def _columns(self, width: int) -> list[Text]:
        """Return the figures in three columns: learning, throughput, losses."""
        lines = [Text(), Text(), Text()]
        column = (width - 6) // 3
        for index, (label, value) in enumerate(iteration_figures(self._metrics)):
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
