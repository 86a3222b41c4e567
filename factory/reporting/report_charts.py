"""Draw the figures of a report: curves as inline SVG, splits of a total as bars of HTML.

Both follow the page's colours, light or dark: the SVG is drawn in placeholder colours that become CSS
variables, and its text stays text in the page's font. matplotlib's object API only, no global figure state.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from factory.reporting.formatting import format_number, format_percent

MUTED, GRID, LINE, MARK = "#020202", "#030303", "#040404", "#050505"
CSS_COLORS = {MUTED: "--muted", GRID: "--rule", LINE: "--accent", MARK: "--second"}
MAX_POINTS = 300
WIDE_IN, NARROW_IN = (6.6, 2.5), (4.4, 2.3)
TIME_UNITS = ((3 * 86400.0, "d", 86400.0), (3 * 3600.0, "h", 3600.0), (300.0, "min", 60.0), (0.0, "s", 1.0))


@dataclass(kw_only=True)
class Curve:
    """One quantity over the run, and what may be marked on it."""

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


def time_axis(seconds: Sequence[float]) -> tuple[list[float], str]:
    """Return the times in the unit that suits the last of them, and the axis label that names it."""
    last_s = max(seconds, default=0.0)
    unit, scale_s = next((unit, scale_s) for least_s, unit, scale_s in TIME_UNITS if last_s >= least_s)
    return [value / scale_s for value in seconds], f"wall time ({unit})"


def panels(curves: Sequence[Curve], *, prefix: str, narrow: bool = False) -> str:
    """Return a grid of titled panels that reflows on small screens.

    Args:
        curves: What to draw, one panel each.
        prefix: Prefix of the ids inside the panels, unique on the page.
        narrow: Small multiples, about three a row instead of two.
    """
    size_in = NARROW_IN if narrow else WIDE_IN
    figures = "".join(
        f"<figure><h3>{escape(curve.title)}</h3>"
        f"{draw_curve(curve, prefix=f'{prefix}{number}', size_in=size_in)}</figure>"
        for number, curve in enumerate(curves)
    )
    return f'<div class="curves{" narrow" if narrow else ""}">{figures}</div>'


def stacked_bar(parts: Mapping[str, float], *, total: float, show: Callable[[float], str], title: str) -> str:
    """Return a stacked bar with its table; what the parts leave of a positive total is a part of its own."""
    rest = total - sum(parts.values())
    shown = {**parts, "other": rest} if rest > 1e-6 * total else dict(parts)
    bars, rows = [], []
    for name, value in shown.items():
        share, color = value / total, f"var(--{name}, var(--rest))"
        label = escape(f"{name} {format_percent(share)}") if share > 0.15 else ""
        if share > 0.0:
            bars.append(f'<span style="flex: {share:.6f}; background: {color}">{label}</span>')
        rows.append(
            f'<tr><th scope="row"><span class="swatch" style="background: {color}"></span>{escape(name)}</th>'
            f'<td class="number">{show(value)}</td>'
            f'<td class="number">{100 * share:.1f} %</td></tr>'
        )
    return (
        f'<figure class="split"><h3>{escape(title)}</h3>'
        f'<div class="stack" aria-hidden="true">{"".join(bars)}</div>'
        f"<table>{''.join(rows)}</table></figure>"
    )


def draw_curve(curve: Curve, *, prefix: str, size_in: tuple[float, float] = NARROW_IN) -> str:
    """Return one curve as an SVG element, without its title.

    Above 300 points the line is the mean of 300 equal groups, and a band spans each group's extremes.

    Args:
        curve: What to draw; has one finite value at least.
        prefix: Prefix of the ids inside the SVG, unique on the page.
        size_in: Width and height [inch] at which text has its natural size.
    """
    x, mean, low, high = _grouped(np.asarray(curve.x, float), np.asarray(curve.y, float))
    figure = Figure(figsize=size_in, layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    if len(curve.y) > MAX_POINTS:
        axes.fill_between(x, low, high, color=LINE, alpha=0.18, linewidth=0)
    single = np.isfinite(mean).sum() == 1
    axes.plot(x, mean, color=LINE, linewidth=1.6, marker="o" if single else None, solid_joinstyle="round")
    if curve.marks:
        axes.plot(*zip(*curve.marks, strict=True), color=MARK, linestyle="none", marker="D", markersize=4.5)
    axes.set_xlabel(curve.x_label, fontsize=10.5, color=MUTED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(labelsize=10.5, color=GRID, labelcolor=MUTED, length=3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.set_xlim(0.0, 1.01 * float(x[-1]) or 1.0)
    for axis, ticks in ((axes.xaxis, 5), (axes.yaxis, 5)):
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(_tick))
    return to_svg(figure, label=_spoken(curve), prefix=prefix)


def _tick(value: float, _position: int | None = None) -> str:
    text = format_number(round(value, 12))
    number, _, unit = text.partition(" ")
    if unit and "." in number:  # 2.00 M -> 2 M
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".rstrip()


def _grouped(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x, mean, minimum and maximum of at most 300 groups; infinities are gaps. Shape: (groups,)."""
    y = np.where(np.isfinite(y), y, np.nan)
    if len(y) <= MAX_POINTS:
        return x, y, y, y
    groups = [
        (np.mean(part_x), np.mean(known), np.min(known), np.max(known))
        for part_x, part_y in zip(np.array_split(x, MAX_POINTS), np.array_split(y, MAX_POINTS), strict=True)
        if (known := part_y[np.isfinite(part_y)]).size
    ]
    return tuple(np.array(groups).T)


def _spoken(curve: Curve) -> str:
    """Return the sentence that a screen reader says instead of the picture."""
    known = [value for value in curve.y if math.isfinite(value)]
    return (
        f"{curve.title} against {curve.x_label}: "
        f"from {format_number(known[0])} to {format_number(known[-1])}, "
        f"lowest {format_number(min(known))}, highest {format_number(max(known))}"
    )


def to_svg(figure: Figure, *, label: str, prefix: str) -> str:
    """Render to an SVG element: no namespaces, no metadata, unique ids, CSS variables for colours."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'\s(width|height)="[^"]*pt"', "", text, count=2)
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub("|".join(CSS_COLORS), lambda match: f"var({CSS_COLORS[match[0]]})", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
