"""Draw the figures of a report and set its style: curves as inline SVG, splits of a total as bars of HTML.

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

from factory.quantities import format_number, format_percent

MUTED, GRID, LINE, MARK = "#020202", "#030303", "#040404", "#050505"
CSS_COLORS = {MUTED: "--muted", GRID: "--rule", LINE: "--accent", MARK: "--second"}
MAX_POINTS = 300
WIDE_IN, NARROW_IN = (6.6, 2.5), (4.4, 2.3)
TIME_UNITS = ((3 * 86400.0, "d", 86400.0), (3 * 3600.0, "h", 3600.0), (300.0, "min", 60.0), (0.0, "s", 1.0))
STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1c2024; --muted: #5f6770;
  --rule: #dfe2e5; --accent: #1f6feb; --second: #b3470a; --sim: #1f6feb; --infer: #12805c; --learn: #b3470a;
  --eval: #7a4fc4; --startup: #8a6d00; --checkpoint: #b0357a; --io: #2f7f93; --idle: #6b7280; --rest: #747b84;
  --cpu: #1f6feb; --gpu: #12805c; --dram: #7a4fc4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1c2024; --ink: #e8eaec;
  --muted: #9aa3ac; --rule: #343a41; --accent: #6aa5ff; --second: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .8rem; }
p { margin: .6rem 0; max-width: 46rem; }
a { color: var(--accent); }
.quiet { color: var(--muted); font-size: .875rem; }
.status { border: 1px solid currentColor; border-radius: 1rem; padding: .05rem .6rem; font-size: .8rem;
  margin-left: .6rem; vertical-align: .35rem; font-weight: 500; letter-spacing: 0; }
.status.odd, .missing strong { color: var(--second); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .8rem;
  margin: 1.6rem 0; }
.tile, .missing, details, pre.command { background: var(--card); border: 1px solid var(--rule);
  border-radius: .6rem; }
.tile { padding: .8rem 1rem; }
.tile dt, .tile .note { font-size: .8rem; color: var(--muted); }
.tile dd { margin: 0; font-variant-numeric: tabular-nums; }
.tile .value { font-size: 1.45rem; font-weight: 600; letter-spacing: -.01em; line-height: 1.35; }
.missing { border-left: 4px solid var(--second); padding: .7rem 1rem; margin: 1rem 0; }
.missing ul { margin: .2rem 0 0; padding-left: 1.2rem; }
figure { margin: 0; }
.film { display: grid; gap: .8rem; }
img, video { display: block; width: 100%; border-radius: .5rem; background: var(--rule); }
.film video { max-width: 40rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { text-align: left; font-weight: 400; padding: .2rem 1.4rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
td.number { text-align: right; white-space: nowrap; }
details { padding: .6rem 1rem; margin: .6rem 0; }
summary { cursor: pointer; font-weight: 500; }
pre { overflow-x: auto; margin: .6rem 0; font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, monospace; }
pre.command { padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.curves { display: grid; gap: 1.4rem 1.8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.curves.narrow { grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.curves svg { width: 100%; height: auto; display: block; }
.curves text { font-family: inherit !important; }
.curves h3, .split h3 { font-size: .875rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.stack { display: flex; gap: 2px; height: 2rem; border-radius: .4rem; overflow: hidden; margin-bottom: .5rem;
  print-color-adjust: exact; }
.stack span { color: #fff; font-size: .8rem; line-height: 2rem; text-align: center; overflow: hidden;
  white-space: nowrap; min-width: 1px; }
.split table { width: 100%; max-width: 30rem; }
.swatch { display: inline-block; width: .75rem; height: .75rem; border-radius: .2rem; margin-right: .5rem;
  vertical-align: -.05rem; print-color-adjust: exact; }
"""


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
