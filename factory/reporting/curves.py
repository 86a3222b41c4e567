"""Draw curves as inline SVG in the colours of the page, with the values under the pointer.

The SVG is drawn in placeholder colours that become CSS variables, and its text stays text in the page's font.
Values appear by CSS alone: the pages hold no script. matplotlib's object API only, no global figure state.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from factory.reporting.formatting import format_number

MUTED = "#020202"
GRID = "#030303"
LINE = "#040404"
MARK = "#050505"
CSS_COLORS = {MUTED: "--muted", GRID: "--rule", LINE: "--accent", MARK: "--second"}
MAX_POINTS = 300
MAX_PANELS = 100
MAX_HITS = 60
"""Points of a curve that show their value."""
WIDE_IN = (4.9, 2.2)
NARROW_IN = (4.4, 2.2)
POINTS_PER_INCH = 72
_TIP_WIDTH_SHARE = 0.3
"""Share of the width next to the left and right end where a value's text starts or ends at its point."""
_TIME_UNITS = ((3 * 86400.0, "d", 86400.0), (3 * 3600.0, "h", 3600.0), (300.0, "min", 60.0), (0.0, "s", 1.0))
"""Least last value [s], unit, and its length [s]."""


@dataclass(kw_only=True)
class Curve:
    """One metric over the run, and what may be marked on it."""

    title: str
    """Name with unit."""
    x: Sequence[float]
    """Positions; ascending."""
    y: Sequence[float]
    """Values; nan leaves a gap."""
    x_label: str = "env steps"
    """Axis label with unit."""
    marks: Sequence[tuple[float, float]] = ()
    """Points (x, y) drawn on top as diamonds."""


@dataclass(kw_only=True)
class Panel:
    """A drawn curve with the names of its axes."""

    title: str
    x_label: str
    svg: Markup


@dataclass(kw_only=True)
class Panels:
    """Drawn curves that belong together, and what they show beside their titles."""

    panels: list[Panel] = field(default_factory=list)
    note: str = ""


def time_axis(seconds: Sequence[float]) -> tuple[list[float], str]:
    """Return the times in the unit that suits the last of them, and the axis label that names it."""
    last_s = max(seconds, default=0.0)
    unit, scale_s = next((unit, scale_s) for least_s, unit, scale_s in _TIME_UNITS if last_s >= least_s)
    return [value / scale_s for value in seconds], f"wall time ({unit})"


def draw_panels(curves: Sequence[Curve], *, prefix: str, narrow: bool = False, note: str = "") -> Panels:
    """Draw every curve.

    Args:
        curves: What to draw, one panel each as far as there are finite points; at most 100.
        prefix: Prefix of the ids inside the panels, unique on the page.
        narrow: Small multiples, about three a row instead of two.
        note: Sentences below the panels.
    """
    size_in = WIDE_IN
    if narrow:
        size_in = NARROW_IN
    panels: list[Panel] = []
    if len(curves) > MAX_PANELS:
        note = f"{note} The first {MAX_PANELS} of {len(curves)} curves are drawn.".lstrip()
    for number, curve in enumerate(map(_finite, curves[:MAX_PANELS])):
        if not curve.x:
            continue
        svg = draw_curve(curve, prefix=f"{prefix}{number}", size_in=size_in)
        panels.append(Panel(title=curve.title, x_label=curve.x_label, svg=svg))
    return Panels(panels=panels, note=note)


def _finite(curve: Curve) -> Curve:
    """Return a curve without the points that have no place; empty if there is nothing to draw."""
    points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(x)]
    if not any(math.isfinite(y) for _, y in points):
        points = []
    marks = [point for point in curve.marks if all(map(math.isfinite, point))]
    return replace(curve, x=[x for x, _ in points], y=[y for _, y in points], marks=marks)


def draw_curve(curve: Curve, *, prefix: str, size_in: tuple[float, float] = NARROW_IN) -> Markup:
    """Return one curve as an SVG element, without its title.

    Above 300 points the line is the mean of 300 equal groups, and a band spans each group's extremes.
    """
    x, mean, low, high = _grouped(np.asarray(curve.x, float), np.asarray(curve.y, float))
    figure = Figure(figsize=size_in, dpi=POINTS_PER_INCH, layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    # A mean alone would hide the extremes of its group.
    if len(curve.y) > MAX_POINTS:
        axes.fill_between(x, low, high, color=LINE, alpha=0.18, linewidth=0)
    marker = None
    # A line through one point is invisible.
    if np.isfinite(mean).sum() == 1:
        marker = "o"
    axes.plot(x, mean, color=LINE, linewidth=1.6, marker=marker, solid_joinstyle="round")
    if curve.marks:
        mark_x, mark_y = zip(*curve.marks, strict=True)
        axes.plot(mark_x, mark_y, color=MARK, linestyle="none", marker="D", markersize=4.5)
    # A little room on the right keeps the last point whole.
    axes.set_xlim(0.0, 1.01 * float(x[-1]) or 1.0)
    style_axes(axes, x_label=curve.x_label)
    svg = str(to_svg(figure, label=_spoken(curve), prefix=prefix))
    # Drawing laid out the axes: only now is it known where the points are in the picture.
    return Markup(svg.replace("</svg>", f"{_tips(figure, curve, x, mean)}</svg>"))


def style_axes(axes: Axes, *, x_label: str) -> None:
    """Give axes the look of the page: horizontal rules, quiet text, round ticks."""
    axes.set_xlabel(x_label, fontsize=10.5, color=MUTED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(labelsize=10.5, color=GRID, labelcolor=MUTED, length=3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(tick_text))


def tick_text(value: float, _position: int | None = None) -> str:
    """Return a tick's label, `2 M` rather than `2.00 M`."""
    text = format_number(round(value, 12))
    number, _, unit = text.partition(" ")
    # Only behind the decimal point are zeros without meaning.
    if unit and "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".rstrip()


def _grouped(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x, mean, minimum and maximum of at most 300 groups; infinities are gaps. Shape: (groups,)."""
    # An infinity would take the whole axis.
    y = np.where(np.isfinite(y), y, np.nan)
    if len(y) <= MAX_POINTS:
        return x, y, y, y
    groups = [
        (np.mean(part_x), np.mean(known), np.min(known), np.max(known))
        for part_x, part_y in zip(np.array_split(x, MAX_POINTS), np.array_split(y, MAX_POINTS), strict=True)
        if (known := part_y[np.isfinite(part_y)]).size
    ]
    return tuple(np.array(groups).T)


def _tips(figure: Figure, curve: Curve, x: np.ndarray, y: np.ndarray) -> str:
    """Return an invisible strip for each of some points; under the pointer it shows the point's value.

    The figure has been drawn.
    """
    axes = figure.axes[0]
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    # Gaps have no value to show.
    known = np.flatnonzero(np.isfinite(y))
    chosen = known[np.unique(np.linspace(0, len(known) - 1, min(MAX_HITS, len(known))).round().astype(int))]
    places = axes.transData.transform(np.column_stack([x[chosen], y[chosen]]))
    # Pixels from the lower left; SVG has its origin at the upper left.
    left, bottom, right, top = axes.get_window_extent().extents
    # A strip reaches half way to its neighbours.
    middles = (places[1:, 0] + places[:-1, 0]) / 2
    edges = np.concatenate([[left], middles, [right]])
    tips: list[str] = []
    for index, (place, value_index) in enumerate(zip(places, chosen, strict=True)):
        px = place[0]
        # SVG counts down from the top.
        py = height - place[1]
        anchor = "middle"
        if px < _TIP_WIDTH_SHARE * width:
            anchor = "start"
        elif px > (1 - _TIP_WIDTH_SHARE) * width:
            anchor = "end"
        text = f"{tick_text(y[value_index])} at {tick_text(x[value_index])} {_unit(curve.x_label)}"
        tips.append(
            f'<g class="hit"><rect x="{edges[index]:.1f}" y="{height - top:.1f}" '
            f'width="{max(edges[index + 1] - edges[index], 0.1):.1f}" height="{top - bottom:.1f}" '
            'fill="none" pointer-events="all"/><g class="tip">'
            f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{height - top:.1f}" y2="{height - bottom:.1f}"/>'
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3"/>'
            f'<text x="{px:.1f}" y="{height - top + 9:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
            "</g></g>"
        )
    return "".join(tips)


def _unit(x_label: str) -> str:
    """Return the unit in parentheses, or the label itself where it is the unit, as in `env steps`."""
    _, bracket, unit = x_label.partition("(")
    if bracket:
        return unit.rstrip(")")
    return x_label


def _spoken(curve: Curve) -> str:
    """Return the sentence that a screen reader says instead of the picture."""
    # Numbers a listener can hold: ends and extremes.
    known = [value for value in curve.y if math.isfinite(value)]
    return (
        f"{curve.title} against {curve.x_label}: "
        f"from {format_number(known[0])} to {format_number(known[-1])}, "
        f"lowest {format_number(min(known))}, highest {format_number(max(known))}"
    )


def to_svg(figure: Figure, *, label: str, prefix: str) -> Markup:
    """Render to an SVG element: no namespaces, no metadata, unique ids, CSS variables for colours.

    Args:
        figure: What to render.
        label: Sentence for a screen reader.
        prefix: Prefix of the ids inside, unique on the page.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Inside HTML an SVG needs no namespace, and its size is the page's business.
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'\s(width|height)="[^"]*pt"', "", text, count=2)
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub("|".join(CSS_COLORS), lambda match: f"var({CSS_COLORS[match[0]]})", text)
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    # Matplotlib escapes the texts of its pictures, and the rest is escaped above.
    return Markup(text)
