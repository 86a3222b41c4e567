"""Small SVG drawings of the floor's page: curves over time, and the timeline of lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from factory.floor.history import Span

WIDTH = 960.0
_LEFT = 56.0
_RIGHT = 8.0
_TOP = 8.0
_PLOT_HEIGHT = 150.0
_ROW_HEIGHT = 18.0
_NUM_TICKS = 5
_MOST_POINTS = 600
_LEAST = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Values over time, drawn as steps where they hold until the next one."""

    label: str
    css_class: str
    times: Sequence[float]
    """Seconds since 1970."""
    values: Sequence[float | None]
    is_stepped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Time axis, the same for all drawings of a page."""

    start: float
    end: float

    def x(self, at: float) -> float:
        """Return the horizontal position of a time."""
        share = (at - self.start) / max(1e-9, self.end - self.start)
        return _LEFT + min(1.0, max(0.0, share)) * (WIDTH - _LEFT - _RIGHT)


def plot(curves: Sequence[Curve], axis: Axis, *, unit: str) -> Markup:
    """Return curves in one coordinate system that begins at zero."""
    top = max((value for curve in curves for value in curve.values if value is not None), default=0.0)
    highest = _nice_above(top)
    parts = [_grid(highest, unit), _time_ticks(axis, _TOP + _PLOT_HEIGHT)]
    for curve in curves:
        line = Markup('<polyline class="{}" points="{}"/>')
        parts += [line.format(curve.css_class, points) for points in _pieces(curve, axis, highest)]
    return _svg(_TOP + _PLOT_HEIGHT + 20.0, parts)


def timeline(rows: Sequence[tuple[str, Sequence[Span]]], axis: Axis) -> Markup:
    """Return a row of coloured bars for each line; the pointer shows state, length and reason."""
    parts: list[Markup] = []
    for index, (label, found) in enumerate(rows):
        y = _TOP + index * _ROW_HEIGHT
        parts.append(
            Markup('<text x="{}" y="{}" class="label">{}</text>').format(
                f"{_LEFT - 6:.0f}", f"{y + 12:.1f}", label
            )
        )
        for span in found:
            if span.end < axis.start:
                continue
            x = axis.x(span.start)
            # At least a pixel: a short state would vanish.
            width = max(1.0, axis.x(span.end) - x)
            parts.append(
                Markup(
                    '<rect class="state {}" x="{}" y="{}" width="{}" height="13"><title>{}</title></rect>'
                ).format(
                    span.state.value,
                    f"{x:.1f}",
                    f"{y:.1f}",
                    f"{width:.1f}",
                    f"{label}: {span.state} for {span.duration_s:.0f} s: {span.reason}",
                )
            )
    bottom = _TOP + len(rows) * _ROW_HEIGHT
    parts.append(_time_ticks(axis, bottom))
    return _svg(bottom + 20.0, parts)


def _svg(height: float, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img">').format(f"{WIDTH:.0f}", f"{height:.0f}")
    return head + Markup("").join(parts) + Markup("</svg>")


def _grid(highest: float, unit: str) -> Markup:
    parts: list[Markup] = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _PLOT_HEIGHT * (1.0 - share)
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        parts.append(line.format(f"{_LEFT:.0f}", f"{WIDTH - _RIGHT:.0f}", f"{y:.1f}", f"{y:.1f}"))
        label = _short(share * highest) if share < 1.0 else f"{_short(highest)} {unit}"
        text = Markup('<text class="label" x="{}" y="{}">{}</text>')
        parts.append(text.format(f"{_LEFT - 6:.0f}", f"{y + 4:.1f}", label))
    return Markup("").join(parts)


def _time_ticks(axis: Axis, y: float) -> Markup:
    parts: list[Markup] = []
    pattern = "%H:%M:%S" if axis.end - axis.start < 3600.0 else "%H:%M"
    for index in range(_NUM_TICKS):
        at = axis.start + (axis.end - axis.start) * (index + 0.5) / _NUM_TICKS
        text = Markup('<text class="time" x="{}" y="{}">{}</text>')
        parts.append(
            text.format(f"{axis.x(at):.1f}", f"{y + 15:.1f}", f"{datetime.fromtimestamp(at, UTC):{pattern}}")
        )
    return Markup("").join(parts)


def _pieces(curve: Curve, axis: Axis, highest: float) -> list[str]:
    """Return the points of a curve, in pieces between missing values."""
    # More points than the drawing has pixels would only make the page larger.
    stride = max(1, math.ceil(len(curve.times) / _MOST_POINTS))
    pieces: list[list[str]] = [[]]
    before = ""
    for at, value in zip(curve.times[::stride], curve.values[::stride], strict=True):
        if value is None:
            pieces.append([])
            continue
        y = f"{_TOP + _PLOT_HEIGHT * (1.0 - min(1.0, value / highest)):.1f}"
        if curve.is_stepped and pieces[-1]:
            # A step: the old value up to this time, then the new one.
            pieces[-1].append(f"{axis.x(at):.1f},{before}")
        pieces[-1].append(f"{axis.x(at):.1f},{y}")
        before = y
    return [" ".join(piece) for piece in pieces if piece]


def _nice_above(value: float) -> float:
    """Return a round number that is at least a value."""
    # A power of ten below it would be zero.
    if not value > _LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)


def _short(value: float) -> str:
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:g}"
