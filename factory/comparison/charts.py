"""Charts of a comparison: return against joules per token, and against tokens per second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from factory.comparison.figures import BY_KEY, Figure, pareto_front
from factory.comparison.result import Comparison
from factory.energy.types import Interval
from factory.reporting.formatting import si_unit
from factory.reporting.report_charts import GRID, MUTED, to_svg

COLORS = ("#1f6feb", "#d9611e", "#12805c", "#8e5bd0", "#b0357a", "#2f9fb3", "#a88400", "#747b84")
MARKERS = "osD^vPX*"
"""Colours repeat after eight groups; markers go on, so 64 groups look different."""
COSTS = ("factory/joules_per_token", "factory/tokens_per_s")
"""What the return is drawn against."""
FRONT = "Pareto front of the means"
SIZE_IN = (10.5, 4.6)


@dataclass(frozen=True, kw_only=True)
class Inks:
    """Colours of a chart's frame."""

    text: str = "#3d444b"
    grid: str = "#dfe2e5"
    paper: str = "#ffffff"


PAGE = Inks(text=MUTED, grid=GRID, paper="none")
"""Placeholders that become the page's own colours, light or dark."""


def write_png(comparison: Comparison, path: Path) -> None:
    """Draw both charts on white."""
    canvas = draw(comparison, Inks())
    FigureCanvasAgg(canvas).print_png(path)


def svg(comparison: Comparison) -> str:
    """Return both charts as one SVG element in the colours of the page."""
    label = "Return against energy per token, and against control tokens per second, a point for each run"
    return to_svg(draw(comparison, PAGE), label=label, prefix="pareto")


def draw(comparison: Comparison, inks: Inks) -> Canvas:
    """Return the figure with both charts and one legend."""
    canvas = Canvas(figsize=SIZE_IN, dpi=160, layout="constrained", facecolor=inks.paper)
    panels = canvas.subplots(1, len(COSTS), sharey=True)
    for axes, key in zip(panels, COSTS, strict=True):
        _panel(axes, comparison, BY_KEY[key], inks)
    panels[0].set_ylabel(BY_KEY[comparison.return_key].label, color=inks.text, fontsize=10.5)
    found = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    handles = {
        label: found[label] for label in sorted(found, key=FRONT.__eq__)
    }  # settings first, then the front
    legend = canvas.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=min(len(handles), 3),
        frameon=False,
        fontsize=9.5,
    )
    for text in legend.get_texts():
        text.set_color(inks.text)
    return canvas


def _panel(axes: Axes, comparison: Comparison, cost: Figure, inks: Inks) -> None:
    """Draw the runs, the groups' means with their intervals over seeds, and the Pareto front of the means."""
    gain = BY_KEY[comparison.return_key]
    largest = max(
        (found[cost.key].seeds.value for found in comparison.estimates if cost.key in found), default=1.0
    )
    scale, unit = si_unit(largest, cost.unit)
    means: list[tuple[float, float]] = []
    for number, (group, found) in enumerate(zip(comparison.groups, comparison.estimates, strict=True)):
        if cost.key not in found or gain.key not in found:
            continue
        color, marker = COLORS[number % 8], MARKERS[number // 8 % 8]
        axes.plot(
            [cost.of(run) / scale for run in group.runs],
            [gain.of(run) for run in group.runs],
            linestyle="none",
            markersize=4.5,
            alpha=0.55,
            markeredgewidth=0,
            color=color,
            marker=marker,
        )
        x, y = found[cost.key].seeds.map(lambda value: value / scale), found[gain.key].seeds
        means.append((x.value, y.value))
        axes.errorbar(
            x.value,
            y.value,
            xerr=_bars(x),
            yerr=_bars(y),
            markersize=9.0,
            capsize=3.0,
            elinewidth=1.3,
            color=color,
            marker=marker,
            label=group.name,
        )
    if not means:
        axes.text(0.5, 0.5, "not on record", transform=axes.transAxes, ha="center", color=inks.text)
    _front(axes, means, is_cost=cost.is_cost, inks=inks)
    better = "less is better" if cost.is_cost else "more is better"
    source = f", {comparison.tier}" if cost.is_energy else ""
    _frame(axes, f"{cost.label} ({unit}{source}; {better})", inks)


def _bars(interval: Interval) -> list[list[float]] | None:
    """Return the error bar's lengths down and up, None without an interval. Shape: (2, 1)."""
    if math.isnan(interval.lo):
        return None
    return [[interval.value - interval.lo], [interval.hi - interval.value]]


def _front(axes: Axes, means: list[tuple[float, float]], *, is_cost: bool, inks: Inks) -> None:
    """Mark the means that no other beats, and what they dominate, as a staircase."""
    front = [means[index] for index in pareto_front(means, is_cost=is_cost)]
    if not front:
        return
    x, y = zip(*front, strict=True)
    axes.plot(
        x, y, drawstyle="steps-post", linestyle="--", linewidth=1.1, color=inks.text, alpha=0.7, zorder=1
    )
    axes.plot(
        x,
        y,
        linestyle="none",
        marker="o",
        markersize=16.0,
        markerfacecolor="none",
        markeredgecolor=inks.text,
        markeredgewidth=1.1,
        label=FRONT,
    )


def _frame(axes: Axes, x_label: str, inks: Inks) -> None:
    axes.set_facecolor(inks.paper)
    axes.set_xlabel(x_label, color=inks.text, fontsize=10.5)
    axes.grid(color=inks.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10, color=inks.grid, labelcolor=inks.text, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(inks.grid)
    axes.margins(0.12)
    axes.xaxis.set_major_locator(MaxNLocator(6))
