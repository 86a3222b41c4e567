"""The table of a README and the figure, from the rounds alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from comparisons import Comparison, Quantity, Ratio, Round
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLORS = {
    "ours": "#1f6feb",
    "envpool": "#b3470a",
    "gymnasium": "#8a6d00",
    "sb3": "#7a4fc4",
    "rsl_rl": "#12805c",
    "unilab": "#b0357a",
}
ENGINE, INK, MUTED = "#b9c0c8", "#1c2024", "#5f6770"
MOST_BARS = 6
"""Most speeds in a comparison."""


def table(comparisons: Sequence[Comparison], rounds: Sequence[Round]) -> str:
    """Return two tables in Markdown: ratios with their goals, and speeds."""
    lines = ["| | ratio | lowest to highest round | goal | |", "|---|---|---|---|---|"]
    for comparison in comparisons:
        lines.append(f"| **{comparison.title}** | | | | |")
        lines += [_ratio_row(ratio, rounds) for ratio in comparison.ratios if ratio.samples(rounds)]
    lines += ["", "| | control steps/s | lowest to highest round |", "|---|---|---|"]
    for comparison in comparisons:
        lines.append(f"| **{comparison.title}** | | |")
        lines += [_speed_row(speed, rounds) for speed in comparison.speeds if speed.samples(rounds)]
    return "\n".join(lines)


def _ratio_row(ratio: Ratio, rounds: Sequence[Round]) -> str:
    samples = ratio.samples(rounds)
    median = statistics.median(samples)
    goal = "" if ratio.goal is None else f"{ratio.goal:g}"
    verdict = "" if ratio.goal is None else "met" if median >= ratio.goal else "missed"
    return f"| {ratio.label} | {median:.2f} | {min(samples):.2f} to {max(samples):.2f} | {goal} | {verdict} |"


def _speed_row(speed: Quantity, rounds: Sequence[Round]) -> str:
    samples = speed.samples(rounds)
    median, lowest, highest = (_short(find(samples)) for find in (statistics.median, min, max))
    return f"| {speed.label} | {median} | {lowest} to {highest} |"


def _short(steps_per_s: float) -> str:
    return f"{steps_per_s / 1e3:#.3g}".rstrip(".") + " k"


def draw(comparisons: Sequence[Comparison], rounds: Sequence[Round], path: Path, *, note: str) -> None:
    """Draw a panel of bars a comparison: medians, with the range of the rounds."""
    columns = min(len(comparisons), 3)
    rows = -(-len(comparisons) // columns)
    layout = ConstrainedLayoutEngine(h_pad=0.1, hspace=0.06, w_pad=0.1)
    figure = Figure(figsize=(4.7 * columns, 0.8 + 2.5 * rows), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    for index, comparison in enumerate(comparisons):
        _panel(figure.add_subplot(rows, columns, index + 1), comparison, rounds)
    figure.suptitle("Control steps a second, all worlds together", fontsize=12, color=INK, x=0.01, ha="left")
    figure.supxlabel(f"Grey: a physics engine by itself. {note}", fontsize=8, color=MUTED, x=0.01, ha="left")
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, comparison: Comparison, rounds: Sequence[Round]) -> None:
    speeds = [speed for speed in comparison.speeds if speed.samples(rounds)]
    longest = max(max(speed.samples(rounds)) for speed in speeds)
    for place, speed in enumerate(speeds):
        samples = speed.samples(rounds)
        median = statistics.median(samples)
        color = ENGINE if speed.metric.startswith("engine") else COLORS[speed.worker]
        spread = [[median - min(samples)], [max(samples) - median]]
        axes.barh(place, median, 0.72, color=color, xerr=spread, ecolor=INK, error_kw={"linewidth": 0.8})
        axes.text(max(samples) + 0.02 * longest, place, _short(median), va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(len(speeds)), [speed.label for speed in speeds], fontsize=8.5)
    axes.set_ylim(MOST_BARS - 0.5, -0.5)  # equally thick everywhere
    axes.set_xlim(0, 1.2 * longest)
    axes.set_xticks([])
    axes.tick_params(left=False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set(color=ENGINE, bounds=(-0.5, len(speeds) - 0.5))
    axes.set_title(comparison.title, fontsize=10, loc="left", fontweight="bold", color=INK)
