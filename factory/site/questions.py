"""Questions that a projection answers: required output, depreciation, gangs, time to fill, marginal watts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.energy import economics
from factory.site.projection import Projection, quantiles_of

YEARS = (1.0, 2.0, 3.0, 5.0, 8.0)
PRICE_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Prices of a policy relative to the median price."""
LIVES = (2.0, 3.0, 5.0, 6.0)
SCHEDULED = (0.4, 0.6, 0.8, 0.95)
GOOD_SHARES = (0.25, 0.5, 0.75, 1.0)
GANGS = (1, 8, 64, 512, 2048)
FILL_MONTHS = tuple(range(0, 25, 2))
_W_PER_MW = 1e6


def required_per_mw_day(projection: Projection, *, price_usd: float, years: float) -> list[float]:
    """Return the good policies a day that a megawatt must make to pay back, as 5, 50 and 95 % quantiles.

    The price stays as it is for all these years.
    """
    outputs = projection.outputs
    running = outputs["electricity_usd_per_year"] + outputs["opex_usd_per_year"]
    required = economics.required_units_per_day(
        capex_usd=outputs["capex_usd"], running_usd_per_year=running, price_usd=price_usd, years=years
    )
    megawatts = projection.site.facility_w / _W_PER_MW
    return quantiles_of(np.asarray(required) / megawatts)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of medians over two assumptions."""

    rows: tuple[float, ...]
    columns: tuple[float, ...]
    values: list[list[float]]


def required_grid(projection: Projection) -> Grid:
    """Return the required output of a megawatt by price [USD] and time to pay back [years]."""
    middle = projection.at_middle()["policy_usd"]
    prices = tuple(factor * middle for factor in PRICE_FACTORS)
    values = [
        [required_per_mw_day(projection, price_usd=price, years=years)[1] for years in YEARS]
        for price in prices
    ]
    return Grid(rows=prices, columns=YEARS, values=values)


def depreciation_grid(projection: Projection) -> Grid:
    """Return the break-even price of a policy by share of time with work and life of the machines [years]."""
    values = [
        [projection.at_middle(scheduled=share, life_years=life)["breakeven_usd_per_policy"] for life in LIVES]
        for share in SCHEDULED
    ]
    return Grid(rows=SCHEDULED, columns=LIVES, values=values)


def by_good_share(projection: Projection) -> list[tuple[float, float]]:
    """Return shares of good policies, and the break-even price at each [USD]."""
    return [
        (share, projection.at_middle(good_share=share)["breakeven_usd_per_policy"]) for share in GOOD_SHARES
    ]


def by_gang(projection: Projection) -> list[tuple[int, float, float]]:
    """Return sizes of gangs, the share of time whose work counts, and the break-even price [USD]."""
    inputs = projection.middle_inputs()
    rows: list[tuple[int, float, float]] = []
    for gang in GANGS:
        productive = economics.productive_share(
            gang=float(gang), failures_per_node_day=inputs["failures_per_node_day"], lost_s=inputs["lost_s"]
        )
        rows.append((gang, float(productive), projection.at_middle(gang=gang)["breakeven_usd_per_policy"]))
    return rows


def value_by_fill(projection: Projection) -> list[tuple[float, float]]:
    """Return months until the site is full, and the net present value over the life of the machines [USD]."""
    inputs = projection.middle_inputs()
    outputs = projection.at_middle()
    return [
        (
            float(months),
            economics.net_present_value(
                capex_usd=outputs["capex_usd"],
                revenue_usd_per_year=outputs["revenue_usd_per_year"],
                running_usd_per_year=outputs["electricity_usd_per_year"] + outputs["opex_usd_per_year"],
                rate=inputs["rate"],
                years=inputs["life_years"],
                price_decline=inputs["price_decline"],
                fill_months=float(months),
            ),
        )
        for months in FILL_MONTHS
    ]


def payback_curve(
    projection: Projection, years: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of the draws that have paid back by each time. Shape: (num_times,)."""
    # The empirical distribution function; infinite paybacks are at its end and are never counted.
    payback = np.sort(projection.outputs["payback_years"])
    return np.searchsorted(payback, np.asarray(years), side="right") / len(payback)


@dataclass(frozen=True, kw_only=True)
class MarginalWatt:
    """Worth of the last watt in one more line, and in the same lines faster [tokens/s for each watt]."""

    num_lines: int
    next_line: float
    """Worth in the k-th line; NaN if it added no power that the meter could see."""
    faster: float
    """Worth in lines that did not run at full power before; NaN if none were seen so."""


def marginal_watts(projection: Projection) -> list[MarginalWatt]:
    """Return the worth of a watt for each number of lines that the floor has seen after one fewer."""
    machine = projection.workload.machine
    found: list[MarginalWatt] = []
    for before, after in zip(machine.steps, machine.steps[1:], strict=False):
        if after.num_lines != before.num_lines + 1:
            continue
        found.append(
            MarginalWatt(
                num_lines=after.num_lines,
                next_line=economics.marginal_tokens_per_s_per_w(
                    speed_before=before.tokens_per_s,
                    speed_after=after.tokens_per_s,
                    power_before_w=before.upper_w,
                    power_after_w=after.upper_w,
                ),
                faster=machine.faster_tokens_per_s_per_w,
            )
        )
    return found
