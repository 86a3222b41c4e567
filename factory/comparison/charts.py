"""Charts of a comparison: return against costs, and learning curves, a colour for every group."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from factory.comparison.estimate import value_of
from factory.comparison.learning import GroupCurve, group_curves
from factory.comparison.result import Comparison
from factory.energy.types import Interval
from factory.metric_keys import Better, Metric, metric
from factory.reporting.curves import GRID, MUTED, WIDE_IN, Panel, tick_text, to_svg
from factory.reporting.formatting import si_unit

COLORS = ("#1f6feb", "#d9611e", "#12805c", "#8e5bd0", "#b0357a", "#2f9fb3", "#a88400", "#747b84")
MARKERS = "osD^vPX*"
"""Colours repeat after eight groups; markers go on, so 64 groups look different."""
COSTS = ("factory/joules_per_token", "factory/tokens_per_s", "energy/total_j", "time/wall_s")
"""Metrics against which the return is drawn."""
PNG_COSTS = COSTS[:2]
"""Those of the picture."""
FRONT = "Pareto front of the means"
_LOG_RATIO = 10.0
"""Largest over smallest value from which on an axis is logarithmic."""
_PNG_PANEL_IN = (5.25, 4.2)
_LEGEND_ROW_IN = 0.22
_LETTER_IN = 0.085
_MARKER_IN = 0.6
_INCH_MARGIN = 0.3


@dataclass(frozen=True, kw_only=True)
class Inks:
    """Colours of a chart's frame."""

    text: str = "#3d444b"
    grid: str = "#dfe2e5"
    paper: str = "#ffffff"


PAGE = Inks(text=MUTED, grid=GRID, paper="none")
"""Placeholders that become the page's own colours, light or dark."""


@dataclass(frozen=True)
class Chart:
    """One picture: how to draw it, and the names of its axes."""

    y_label: str
    x_label: str
    draw: Callable[[Axes, Inks], None]

    missing: tuple[str, ...] = ()
    """Groups that cannot be drawn."""


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a group with its marker as SVG."""

    name: str
    svg: Markup


def style(number: int) -> tuple[str, str]:
    """Return colour and marker of a group."""
    # The marker changes only after every colour was used.
    count = len(COLORS)
    return COLORS[number % count], MARKERS[number // count % len(MARKERS)]


def cost_charts(comparison: Comparison, keys: Sequence[str] = COSTS) -> list[Chart]:
    """Return the charts of the return against costs that some run has."""
    gain = metric(comparison.return_key)
    charts: list[Chart] = []
    for key in keys:
        cost = metric(key)
        if not any(key in found for found in comparison.estimates):
            continue
        scale, unit = _axis_unit(comparison, cost)
        label = f"{cost.label.lower()} ({unit}{_source(comparison, cost)}; {cost.better} is better)"

        # Defaults bind the values of this round of the loop.
        def draw(axes: Axes, inks: Inks, cost: Metric = cost, scale: float = scale) -> None:
            _draw_costs(axes, comparison, cost=cost, gain=gain, scale=scale, inks=inks)

        charts.append(Chart(gain.label, label, draw))
    return charts


def learning_charts(comparison: Comparison) -> list[Chart]:
    """Return the charts of the training return over env steps, time and energy, as far as logged."""
    label = metric("train/return_mean").label
    charts: list[Chart] = []
    for x_label, curves in group_curves(comparison):
        # As above, bound now.
        def draw(axes: Axes, inks: Inks, curves: Sequence[GroupCurve | None] = curves) -> None:
            _draw_curves(axes, curves)

        names = [group.name for group, curve in zip(comparison.groups, curves, strict=True) if not curve]
        charts.append(Chart(label, x_label, draw, tuple(names)))
    return charts


def to_panels(charts: Sequence[Chart], *, prefix: str) -> list[Panel]:
    """Draw charts one by one as SVG in the colours of the page.

    Args:
        charts: What to draw.
        prefix: Prefix of the ids inside, unique on the page.
    """
    panels: list[Panel] = []
    for number, chart in enumerate(charts):
        width_in, height_in = WIDE_IN
        # Two labelled axes need more height than a curve of a report.
        figure = Figure(figsize=(width_in, 1.25 * height_in), layout="constrained", facecolor="none")
        axes = figure.add_subplot()
        _draw(axes, chart, PAGE)
        svg = to_svg(figure, label=f"{chart.y_label} against {chart.x_label}", prefix=f"{prefix}{number}")
        panels.append(Panel(title=chart.y_label, x_label=chart.x_label, svg=svg))
    return panels


def legend(comparison: Comparison) -> list[Key]:
    """Return name and marker of every group for the page."""
    keys: list[Key] = []
    for number, group in enumerate(comparison.groups):
        color, marker = style(number)
        # Half a centimetre of nothing but the marker: the page scales it to its text.
        figure = Figure(figsize=(0.2, 0.2), facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)
        axes.set_axis_off()
        axes.plot([0], [0], color=color, marker=marker, markersize=8.0, linestyle="none")
        keys.append(Key(group.name, to_svg(figure, label=f"marker {number + 1}", prefix=f"key{number}")))
    return keys


def write_png(charts: Sequence[Chart], comparison: Comparison, path: Path) -> None:
    """Draw charts side by side on white, with one legend below."""
    names = [group.name for group in comparison.groups]
    panel_width_in, height_in = _PNG_PANEL_IN
    width_in = panel_width_in * max(len(charts), 1)
    # As many columns as the longest name leaves room for, and as much height as the rows then need.
    entry_in = _MARKER_IN + _LETTER_IN * max(map(len, [*names, FRONT]))
    columns = max(1, min(len(names) + 1, int((width_in - _INCH_MARGIN) / entry_in)))
    num_rows = math.ceil((len(names) + 1) / columns)
    inks = Inks()
    figure = Figure(
        figsize=(width_in, height_in + _LEGEND_ROW_IN * num_rows),
        dpi=160,
        layout="constrained",
        facecolor=inks.paper,
    )
    panels = figure.subplots(1, max(len(charts), 1), squeeze=False)[0]
    for axes, chart in zip(panels, charts, strict=False):
        _draw(axes, chart, inks)
    handles: list[Line2D] = []
    for number, name in enumerate(names):
        color, marker = style(number)
        handles.append(Line2D([], [], color=color, marker=marker, markersize=8.0, label=name))
    # The front has an entry only where one is drawn.
    if any(line.get_label() == FRONT for axes in panels for line in axes.lines):
        ring: dict[str, Any] = {"marker": "o", "markersize": 12.0, "markerfacecolor": "none"}
        handles.append(Line2D([], [], color=inks.text, linestyle="--", label=FRONT, **ring))
    look: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "labelcolor": inks.text}
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **look)
    FigureCanvasAgg(figure).print_png(path)


def _draw(axes: Axes, chart: Chart, inks: Inks) -> None:
    axes.set_facecolor(inks.paper)
    axes.set_xlabel(chart.x_label, color=inks.text, fontsize=10)
    axes.set_ylabel(chart.y_label, color=inks.text, fontsize=10)
    axes.grid(color=inks.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=9.5, color=inks.grid, labelcolor=inks.text, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(inks.grid)
    # Error bars end inside the frame.
    axes.margins(0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_text))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_text))
    chart.draw(axes, inks)


def _axis_unit(comparison: Comparison, cost: Metric) -> tuple[float, str]:
    """Return the divisor and the unit in which the largest mean is read best."""
    # One unit for all groups, so that their places on the axis compare.
    largest = max(found[cost.key].seeds.value for found in comparison.estimates if cost.key in found)
    if cost.unit == "s":
        return 1.0, "s"
    return si_unit(largest, cost.unit)


def _source(comparison: Comparison, cost: Metric) -> str:
    if cost.is_energy:
        return f", {comparison.tier}"
    return ""


def _draw_costs(
    axes: Axes, comparison: Comparison, *, cost: Metric, gain: Metric, scale: float, inks: Inks
) -> None:
    """Draw the runs, the groups' means with their intervals over seeds, and the Pareto front of the means."""
    means: list[tuple[float, float]] = []
    drawn: list[float] = []
    for number, (group, found) in enumerate(zip(comparison.groups, comparison.estimates, strict=True)):
        if cost.key not in found or gain.key not in found:
            continue
        color, marker = style(number)
        costs = [value_of(run, cost) / scale for run in group.runs]
        returns = [value_of(run, gain) for run in group.runs]
        # Runs are small and faint, the means in front.
        faint: dict[str, Any] = {"alpha": 0.55, "markersize": 4.5, "markeredgewidth": 0}
        axes.plot(costs, returns, linestyle="none", color=color, marker=marker, **faint)
        x = found[cost.key].seeds.map(lambda value: value / scale)
        y = found[gain.key].seeds
        means.append((x.value, y.value))
        drawn += [value for value in (*costs, x.lo, x.hi) if math.isfinite(value)]
        bars: dict[str, Any] = {"xerr": _bars(x), "yerr": _bars(y), "capsize": 3.0, "elinewidth": 1.3}
        axes.errorbar(x.value, y.value, color=color, marker=marker, markersize=9.0, **bars)
    # Costs are positive, and groups may be powers of ten apart.
    if drawn and min(drawn) > 0.0 and max(drawn) / min(drawn) > _LOG_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(tick_text))
        axes.xaxis.set_minor_formatter(NullFormatter())
    _draw_front(axes, means, is_cost=cost.better is Better.LOWER, inks=inks)


def _bars(interval: Interval) -> list[list[float]] | None:
    """Return the error bar's lengths down and up, None without an interval. Shape: (2, 1)."""
    if math.isnan(interval.lo):
        return None
    return [[interval.value - interval.lo], [interval.hi - interval.value]]


def _draw_front(axes: Axes, means: list[tuple[float, float]], *, is_cost: bool, inks: Inks) -> None:
    """Ring the means that no other beats, and draw the border of what they dominate as a staircase."""
    front = [means[index] for index in pareto_front(means, is_cost=is_cost)]
    if not front:
        return
    x, y = zip(*front, strict=True)
    # Behind the points, since it only guides the eye.
    faint: dict[str, Any] = {"color": inks.text, "alpha": 0.7, "zorder": 1}
    axes.plot(x, y, drawstyle="steps-post", linestyle="--", linewidth=1.1, **faint)
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": inks.text, "markeredgewidth": 1.1}
    axes.plot(x, y, linestyle="none", marker="o", markersize=16.0, label=FRONT, **ring)


def _draw_curves(axes: Axes, curves: Sequence[GroupCurve | None]) -> None:
    """Draw the mean over seeds of every group, and a band from the lowest seed to the highest."""
    for number, curve in enumerate(curves):
        if curve is None:
            continue
        color, marker = style(number)
        # A few markers tell groups of one colour apart.
        marks: dict[str, Any] = {"marker": marker, "markersize": 5.0, "markevery": len(curve.x) // 5}
        axes.plot(curve.x, curve.mean, color=color, linewidth=1.6, **marks)
        if curve.num_seeds > 1:
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
    # Costs are counted from the start of the run, not from its first logged iteration.
    axes.set_xlim(left=0.0)


def pareto_front(points: Sequence[tuple[float, float]], *, is_cost: bool) -> list[int]:
    """Return the indices of points (x, y) on the Pareto front, by falling x if a gain, rising if a cost.

    Args:
        points: Pairs; y is a gain.
        is_cost: Whether x is a cost.
    """
    sign = -1.0
    if is_cost:
        sign = 1.0
    # From the best x to the worst; at equal x the best y first.
    order = sorted(range(len(points)), key=lambda index: (sign * points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        # From the best x on, only a better y is worth a worse x.
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
