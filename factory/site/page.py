"""The page of a projection: one HTML file in the look of a run's report, complete in itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from factory.reporting.formatting import format_si
from factory.reporting.html import write_html
from factory.runtime.stored_files import visible
from factory.site import questions
from factory.site.contrast import Contrast
from factory.site.figures import figures
from factory.site.model import OUTPUTS
from factory.site.projection import DISCLAIMER, Projection
from factory.site.quantities import quantiles
from factory.site.table import LABELS, answer, headline, number_text, value_text

_ANSWERED_YEARS = 3.0
_SHOWN_INFLUENCES = 12


def write_page(found: Sequence[Projection], pair: Contrast | None, path: Path, *, command: str) -> None:
    """Write the page of a projection, or of two side by side.

    Args:
        found: one projection or two.
        pair: the two against each other; None for one.
        path: the HTML file.
        command: command line that made it, to be shown.
    """
    values: dict[str, Any] = {
        "disclaimer": DISCLAIMER,
        "command": command,
        "parts": [_part(projection, prefix=f"p{place}") for place, projection in enumerate(found)],
        "contrast": None,
        "title": f"Site {found[0].site.name}",
    }
    if pair is not None:
        values["title"] = f"{pair.names[0]} and {pair.names[1]}"
        values["contrast"] = _contrast(pair)
    write_html(path, "site.html", **values)


def _part(projection: Projection, *, prefix: str) -> dict[str, Any]:
    """Return the variables of the template for one projection."""
    panels = figures(projection, prefix=prefix)
    return {
        "name": projection.site.name,
        "intent": projection.site.intent,
        "facts": headline(projection),
        "notes": list(projection.workload.notes),
        "answer": answer(projection, years=_ANSWERED_YEARS),
        "tiles": _tiles(projection),
        "outputs": [
            [output.label, *(value_text(output, value) for value in projection.quantiles(output.name))]
            for output in OUTPUTS
        ],
        "panels": panels,
        "required": _grid(questions.required_grid(projection), _price),
        "depreciation": _grid(questions.depreciation_grid(projection), _share_of_time),
        "good": [
            [f"{100 * share:g} % good", f"{number_text(price)} USD"]
            for share, price in questions.by_good_share(projection)
        ],
        "gangs": [
            [f"{gang}", f"{100 * share:.4g} %", f"{number_text(price)} USD"]
            for gang, share, price in questions.by_gang(projection)
        ],
        "watts": _watts(projection),
        "tornado": [
            [
                LABELS[found.input],
                _price(found.at_low),
                _price(found.at_high),
                f"{found.rank_correlation:+.2f}",
            ]
            for found in projection.tornado["breakeven_usd_per_policy"][:_SHOWN_INFLUENCES]
        ],
        "inputs": [_input(quantity) for quantity in projection.quantities],
        "draws": f"{projection.assumptions.num_draws} draws, seed {projection.assumptions.seed}",
    }


def _tiles(projection: Projection) -> list[dict[str, str]]:
    chosen = {
        "good_policies_per_mw_day": "made by a megawatt in a day",
        "breakeven_usd_per_policy": "capital, electricity and operation",
        "payback_years": f"{100 * projection.pays_back:.0f} % of the draws within the life of the machines",
        "capex_usd_per_year": "at the cost of capital, over the life of the machines",
        "electricity_usd_per_year": "idle power included",
        "tco2e_per_year": "operation without manufacture",
    }
    tiles: list[dict[str, str]] = []
    for output in OUTPUTS:
        if output.name not in chosen:
            continue
        low, middle, high = (value_text(output, value) for value in projection.quantiles(output.name))
        tiles.append(
            {"label": output.label, "value": middle, "note": f"{low} to {high}; {chosen[output.name]}"}
        )
    return tiles


def _grid(grid: questions.Grid, row_text: Callable[[float], str]) -> dict[str, Any]:
    """Return a table's head, which is in years, and its rows as texts."""
    head = [f"{value:g} years" for value in grid.columns]
    rows = [
        [row_text(value), *(number_text(cell) for cell in cells)]
        for value, cells in zip(grid.rows, grid.values, strict=True)
    ]
    return {"head": ["", *head], "rows": rows}


def _watts(projection: Projection) -> list[list[str]]:
    """Return the worth of a watt by number of lines, as texts."""
    rows: list[list[str]] = []
    for found in questions.marginal_watts(projection):
        verdict = "not known: no line was seen below full power"
        if math.isnan(found.next_line):
            verdict = "not known: the line added no power that the meter could see"
        elif not math.isnan(found.faster):
            verdict = "one more line"
            # Whichever of the two gives more tokens for the next watt.
            if found.faster > found.next_line:
                verdict = "the same lines faster"
        rows.append([str(found.num_lines), _speed(found.next_line), _speed(found.faster), verdict])
    return rows


def _speed(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{format_si(value)} tokens/s"


def _price(value: float) -> str:
    return f"{number_text(value)} USD"


def _share_of_time(value: float) -> str:
    return f"{100.0 * value:g} % of the time"


def _input(quantity: Any) -> list[str]:
    low, middle, high = (number_text(value) for value in quantiles(quantity))
    return [LABELS[quantity.name], low, middle, high, quantity.unit, quantity.source]


def _contrast(pair: Contrast) -> dict[str, Any]:
    rows: list[list[str]] = []
    for output in OUTPUTS:
        ratios = [
            ("infinite" if math.isinf(value) else number_text(value)) for value in pair.ratios[output.name]
        ]
        rows.append(
            [
                output.label,
                value_text(output, pair.first.quantiles(output.name)[1]),
                value_text(output, pair.second.quantiles(output.name)[1]),
                f"{ratios[1]} [{ratios[0]}, {ratios[2]}]",
                f"{100 * pair.higher[output.name]:.0f} %",
            ]
        )
    names = [visible(name) for name in pair.names]
    head = ["median", *names, "second over first [5 %, 95 %]", "draws in which the second has more"]
    return {"head": head, "rows": rows}
