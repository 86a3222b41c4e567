"""Figures of a projection's page, in the colours of the page."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from factory.reporting.curves import LINE, MARK, MUTED, POINTS_PER_INCH, Panel, style_axes, to_svg
from factory.site import questions
from factory.site.projection import Projection
from factory.site.table import LABELS, number_text

_SIZE_IN = (4.9, 2.9)
_SHOWN_BARS = 8
_LONGEST_YEARS = 15.0
_LABEL_SIZE = 9.5
_FEW_POWERS = 1000.0


def figures(projection: Projection, *, prefix: str) -> list[Panel]:
    """Return the figures of a projection; `prefix` makes their ids unique on a page."""
    return [
        _tornado(projection, prefix),
        _required(projection, prefix),
        _payback(projection, prefix),
        _value(projection, prefix),
    ]


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_IN, dpi=POINTS_PER_INCH, layout="constrained", facecolor="none")
    return figure, figure.add_subplot(facecolor="none")


def _tornado(projection: Projection, prefix: str) -> Panel:
    """Draw the break-even price with each input low and high."""
    figure, axes = _figure()
    found_ones = projection.tornado["breakeven_usd_per_policy"]
    # A price without end has no bar.
    finite = [found for found in found_ones if np.isfinite([found.at_low, found.at_high]).all()]
    # Bars are drawn from below, so the greatest influence comes last and stands on top.
    influences = finite[:_SHOWN_BARS][::-1]
    middle = projection.at_middle()["breakeven_usd_per_policy"]
    for place, found in enumerate(influences):
        # A bar for each end tells which one is dear.
        axes.barh(place, found.at_low - middle, left=middle, color=LINE, height=0.62)
        axes.barh(place, found.at_high - middle, left=middle, color=MARK, height=0.62)
    style_axes(axes, x_label="break-even price of a good policy (USD)")
    axes.grid(visible=False)
    axes.set_yticks(range(len(influences)), [LABELS[found.input] for found in influences])
    axes.tick_params(axis="y", labelsize=_LABEL_SIZE, length=0)
    _log_axis(axes, "x")
    axes.axvline(middle, color=MUTED, linewidth=0.8)
    names = ", ".join(LABELS[found.input] for found in reversed(influences))
    svg = to_svg(
        figure, label=f"Inputs by influence on the break-even price: {names}", prefix=f"{prefix}tornado"
    )
    return Panel(
        title="Inputs, blue at their 5 % and orange at their 95 % quantile,", x_label="price", svg=svg
    )


def _required(projection: Projection, prefix: str) -> Panel:
    """Draw the required output of a megawatt over the price of a policy, for some times to pay back."""
    figure, axes = _figure()
    middle = projection.at_middle()["policy_usd"]
    prices = middle * np.logspace(-1.5, 1.5, 25)
    for years, width, place in ((1.0, 0.8, 18), (3.0, 1.6, 12), (8.0, 2.6, 6)):
        required = [
            questions.required_per_mw_day(projection, price_usd=float(price), years=years) for price in prices
        ]
        # Quantiles over all draws, at each price.
        low, typical, high = np.array(required).T
        axes.plot(prices, typical, color=LINE, linewidth=width)
        label = f"{years:g} y"
        axes.text(prices[place], typical[place], label, color=MUTED, fontsize=_LABEL_SIZE, ha="right")
        if years == 3.0:
            axes.fill_between(prices, low, high, color=LINE, alpha=0.18, linewidth=0)
    low, made, high = projection.quantiles("good_policies_per_mw_day")
    axes.axhspan(low, high, color=MARK, alpha=0.15, linewidth=0)
    axes.axhline(made, color=MARK, linewidth=1.4)
    style_axes(axes, x_label="price of a good policy (USD)")
    _log_axis(axes, "x")
    _log_axis(axes, "y")
    svg = to_svg(
        figure,
        label="Good policies a day that a megawatt must make, over the price",
        prefix=f"{prefix}required",
    )
    return Panel(
        title="Good policies a day per megawatt: to pay back in 1, 3, 8 years (blue), projected (orange),",
        x_label="price",
        svg=svg,
    )


def _payback(projection: Projection, prefix: str) -> Panel:
    """Draw the share of the draws that have paid back by each time."""
    figure, axes = _figure()
    years = np.linspace(0.0, _LONGEST_YEARS, 300)
    axes.plot(years, 100.0 * questions.payback_curve(projection, years), color=LINE, linewidth=1.6)
    life = projection.middle_inputs()["life_years"]
    axes.axvline(life, color=MARK, linewidth=1.2, linestyle="--")
    axes.set_xlim(0.0, _LONGEST_YEARS)
    axes.set_ylim(0.0, 102.0)
    style_axes(axes, x_label="years")
    svg = to_svg(
        figure, label="Share of the draws that have paid back, over the years", prefix=f"{prefix}payback"
    )
    return Panel(
        title="Draws that have paid back (%), life of the machines dashed,", x_label="years", svg=svg
    )


def _value(projection: Projection, prefix: str) -> Panel:
    """Draw the net present value over the months until the site is full."""
    figure, axes = _figure()
    months, values = np.array(questions.value_by_fill(projection)).T
    axes.plot(months, values, color=LINE, linewidth=1.6)
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    style_axes(axes, x_label="months until the site is full")
    svg = to_svg(
        figure, label="Net present value over the months until the site is full", prefix=f"{prefix}value"
    )
    return Panel(title="Net present value at the median of all inputs (USD)", x_label="months", svg=svg)


def _log_axis(axes: Axes, name: str) -> None:
    """Make an axis logarithmic if its values span more than a factor of ten; it then has ticks at powers."""
    low, high = getattr(axes, f"get_{name}lim")()
    if not (math.isfinite(high) and high > 0.0):
        return
    if low > 0.0 and high / low < 10.0:
        return
    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    # Within a few powers of ten, powers alone would be too few ticks.
    subs: tuple[float, ...] = (1.0,)
    if low > 0.0 and high / low < _FEW_POWERS:
        subs = (1.0, 3.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
    axis.set_minor_formatter(NullFormatter())
