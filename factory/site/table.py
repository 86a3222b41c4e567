"""Projections on the console, and the texts that console and page share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from factory.reporting.formatting import format_plain, format_si
from factory.runtime.stored_files import visible
from factory.site.contrast import Contrast
from factory.site.model import OUTPUTS, Output
from factory.site.projection import DISCLAIMER, Projection
from factory.site.questions import required_per_mw_day

NEVER = "never"
_SHOWN_INFLUENCES = 6
_SMALLEST_PLAIN = 1e-4
LABELS = {
    "meter_gain": "error of the energy source",
    "good_share": "share of good policies",
    "tokens_per_run": "tokens of a run",
    "capex_usd_per_w": "capital per watt",
    "life_years": "life of the machines",
    "rate": "cost of capital",
    "opex_share": "other operation",
    "price_usd_per_kwh": "price of electricity",
    "carbon_g_per_kwh": "carbon of electricity",
    "pue": "PUE",
    "fixed_overhead": "fixed overhead",
    "chain_efficiency": "efficiency of the supply",
    "outside_share": "power outside the meter",
    "idle_share": "idle power",
    "reserve": "power reserve",
    "spares": "spare machines",
    "scheduled": "share of time with work",
    "maintenance": "maintenance",
    "failures_per_node_day": "failures of a machine",
    "lost_s": "time lost to a failure",
    "transfer": "speed in a site",
    "kw_per_accelerator": "power of an accelerator",
    "usd_per_core_hour": "rent of a core",
    "usd_per_gpu_hour": "rent of a GPU",
    "price_decline": "yearly fall of the price",
}
"""Inputs as people read them."""


def value_text(output: Output, value: float) -> str:
    """Return an output as text: `never` for a payback that does not come."""
    if math.isinf(value):
        return NEVER
    if output.unit == "%":
        return f"{100.0 * value:.3g} %"
    return f"{number_text(value)} {output.unit}".rstrip()


def number_text(value: float) -> str:
    """Return three digits, with SI prefixes from ten thousand on, or an exponent for the very small."""
    # Three digits would show it as zero.
    if value and abs(value) < _SMALLEST_PLAIN:
        return f"{value:.2e}"
    if abs(value) < 9999.5:
        return format_plain(value)
    if abs(value) >= 1e15:
        return f"{value:.2e}"
    return format_si(value)


def headline(projection: Projection) -> list[str]:
    """Return the lines that must stand above any figure of a projection."""
    work = projection.workload
    bounds = work.joules_per_token
    measured_w = work.machine.power_w.value
    return [
        f"{DISCLAIMER}: {format_si(projection.site.facility_w, 'W')} from {format_si(measured_w, 'W')},"
        f" extrapolation factor {projection.extrapolation_factor:.2g}.",
        f"Workload: {visible(work.task)} on {visible(work.device)}, {work.num_good} good of"
        f" {len(work.outcomes)} runs ({work.gate}).",
        f"Energy: {work.tier}, {format_si(bounds.value, 'J')} a token"
        f" [{format_si(bounds.lo, 'J')}, {format_si(bounds.hi, 'J')}], boundary {visible(work.boundary)}.",
    ]


def answer(projection: Projection, *, years: float) -> str:
    """Return the answer to the question of the page in one sentence."""
    # At the median of all inputs; the intervals show what else is possible.
    price = projection.at_middle()["policy_usd"]
    required = required_per_mw_day(projection, price_usd=price, years=years)
    made = projection.quantiles("good_policies_per_mw_day")
    return (
        f"At {number_text(price)} USD a policy, a megawatt must make {number_text(required[1])}"
        f" [{number_text(required[0])}, {number_text(required[2])}] good policies a day to pay back in"
        f" {years:g} years; machines like this one make {number_text(made[1])}"
        f" [{number_text(made[0])}, {number_text(made[2])}]."
    )


def print_projections(found: Sequence[Projection], pair: Contrast | None) -> None:
    """Print one projection, or two beside each other."""
    console = Console(highlight=False, soft_wrap=True)
    for projection in found:
        console.print(f"site {projection.site.name}: {projection.site.intent}", markup=False)
        for line in (*headline(projection), *projection.workload.notes):
            console.print(f"  {line}", markup=False)
    if pair is None:
        _print_one(console, found[0])
    else:
        _print_pair(console, pair)


def _print_one(console: Console, projection: Projection) -> None:
    table = Table("", "5 %", "median", "95 %", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for output in OUTPUTS:
        cells = [value_text(output, value) for value in projection.quantiles(output.name)]
        table.add_row(output.label, *cells)
    console.print(table)
    console.print(
        f"{100.0 * projection.pays_back:.0f} % of {projection.assumptions.num_draws} draws pay back within"
        f" the life of the machines (seed {projection.assumptions.seed})."
    )
    console.print(answer(projection, years=3.0), markup=False)
    console.print("Inputs that move the break-even price most (5 % to 95 % of each alone):")
    for found in projection.tornado["breakeven_usd_per_policy"][:_SHOWN_INFLUENCES]:
        console.print(
            f"  {LABELS[found.input]:<28} {number_text(found.at_low)} to {number_text(found.at_high)} USD"
        )


def _print_pair(console: Console, pair: Contrast) -> None:
    # Brackets in a name are not markup.
    first, second = (Column(Text(visible(name))) for name in pair.names)
    table = Table("median", first, second, "second over first [5 %, 95 %]", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for output in OUTPUTS:
        low, middle, high = pair.ratios[output.name]
        table.add_row(
            output.label,
            value_text(output, pair.first.quantiles(output.name)[1]),
            value_text(output, pair.second.quantiles(output.name)[1]),
            f"{_ratio(middle)} [{_ratio(low)}, {_ratio(high)}]",
        )
    console.print(table)


def _ratio(value: float) -> str:
    if math.isinf(value):
        return "infinite"
    return number_text(value)
