"""Economics of a site full of machines like the one that was measured, as pure functions.

All of them take floats and numpy arrays alike. Power is facility power [W] unless it says otherwise; the
power usage effectiveness (PUE) enters in `it_power_w`, once, and nowhere else. Currency is the US dollar.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Value: TypeAlias = float | NDArray[np.float64]
"""A number, or one for each draw. Shape of an array: (num_draws,)."""

S_PER_DAY = 86400.0
H_PER_YEAR = 8766.0
DAYS_PER_YEAR = H_PER_YEAR / 24.0
_BISECTIONS = 60
"""Halvings of a time; the last interval is 1e-18 of the first."""


# ---- power ------------------------------------------------------------------------------------------------


def pue_at_load(load: Value, *, fixed: Value, proportional: Value) -> Value:
    """Return the PUE at a load between 0 and 1: 1 + (a0 + a1 L) / L, with overhead a0 that no load moves."""
    return 1.0 + (fixed + proportional * load) / load


def it_power_w(facility_w: Value, *, pue: Value) -> Value:
    """Return the power that is left for machines [W]."""
    return facility_w / pue


def wall_power_w(node_w: Value, *, outside_share: Value, chain_efficiency: Value) -> Value:
    """Return the power of a machine at the end of the supply chain [W].

    Args:
        node_w: Power inside the meter's boundary while the machine works [W].
        outside_share: Power of the machine and its share of network and storage outside that boundary,
            relative to `node_w`.
        chain_efficiency: Product of the efficiencies of rectifiers and power supplies.
    """
    return node_w * (1.0 + outside_share) / chain_efficiency


def num_nodes(it_w: Value, *, wall_w: Value, reserve: Value) -> Value:
    """Return the number of machines for which there is power, less a reserve: P_IT (1 - reserve) / P_wall."""
    return it_w * (1.0 - reserve) / wall_w


def mean_load(*, idle_share: Value, utilisation: Value) -> Value:
    """Return the mean IT power relative to full: machines draw a share of their full power when idle."""
    return idle_share + (1.0 - idle_share) * utilisation


def mean_power_w(facility_w: Value, *, pue: Value, fixed_overhead: Value, load: Value) -> Value:
    """Return the mean power of a facility at a mean IT load [W].

    Args:
        facility_w: Power at full load [W].
        pue: PUE at full load.
        fixed_overhead: Share of the overhead at full load that no load moves.
        load: Mean IT power relative to full.
    """
    # PUE - 1 is the overhead at full load; it splits into a part that follows the load and one that does not.
    fixed = fixed_overhead * (pue - 1.0)
    proportional = (1.0 - fixed_overhead) * (pue - 1.0)
    mean_it_w = it_power_w(facility_w, pue=pue) * load
    return mean_it_w * pue_at_load(load, fixed=fixed, proportional=proportional)


# ---- output -----------------------------------------------------------------------------------------------


def productive_share(*, gang: Value, failures_per_node_day: Value, lost_s: Value) -> Value:
    """Return the share of time whose work counts (ETTR): 1 - lambda g t, and 0 at the least.

    Args:
        gang: Machines that stop together when one of them fails; 1 for a line on one machine.
        failures_per_node_day: Failures of a machine [1/day].
        lost_s: Time until a failure is seen, the restart, and half a checkpoint interval [s].
    """
    # First order in the failure rate; beyond one failure at a time the share is zero, not negative.
    lost_share = failures_per_node_day * gang * lost_s / S_PER_DAY
    return np.maximum(0.0, 1.0 - lost_share)


def utilisation(*, scheduled: Value, productive: Value, maintenance: Value) -> Value:
    """Return the share of time in which a machine makes output that counts."""
    return scheduled * productive * (1.0 - maintenance)


# ---- money and carbon -------------------------------------------------------------------------------------


def capital_recovery_factor(rate: Value, *, years: Value) -> Value:
    """Return the yearly payment on a capital of 1 that is gone after some years: r (1+r)^n / ((1+r)^n - 1).

    At a rate of zero it is 1 / n.
    """
    # r / (1 - (1+r)^-n), written with functions that are exact near zero.
    present_value = -np.expm1(-np.asarray(years) * np.log1p(rate))
    safe_value = np.where(present_value > 0.0, present_value, 1.0)
    factor = np.where(present_value > 0.0, rate / safe_value, 1.0 / np.asarray(years))
    # A number stays a number.
    return factor[()]


def energy_kwh_per_year(power_w: Value) -> Value:
    """Return the energy of a year at a mean power [kWh]."""
    return power_w / 1000.0 * H_PER_YEAR


def electricity_usd_per_year(power_w: Value, *, price_usd_per_kwh: Value) -> Value:
    """Return the cost of a year's electricity at a mean facility power [USD]."""
    return energy_kwh_per_year(power_w) * price_usd_per_kwh


def tco2e_per_year(power_w: Value, *, carbon_g_per_kwh: Value) -> Value:
    """Return the carbon of a year's operation at a mean facility power [t CO2e]; manufacture is not in it."""
    return energy_kwh_per_year(power_w) * carbon_g_per_kwh / 1e6


def breakeven_usd(cost_usd_per_year: Value, *, units_per_year: Value) -> Value:
    """Return the price of a unit at which a year earns what it costs [USD]."""
    return cost_usd_per_year / units_per_year


def required_units_per_day(
    *, capex_usd: Value, running_usd_per_year: Value, price_usd: Value, years: Value
) -> Value:
    """Return the output a day that pays capital and running costs back within some years at a price."""
    return (capex_usd / years + running_usd_per_year) / price_usd / DAYS_PER_YEAR


def payback_years(
    *,
    capex_usd: Value,
    revenue_usd_per_year: Value,
    running_usd_per_year: Value,
    price_decline: Value = 0.0,
) -> Value:
    """Return the time until revenue less running costs has paid the capital [years], or infinity.

    The price falls by a share d each year, so that the first months count most:

        R (1 - (1-d)^t) / -ln(1-d) - C t = capital,    at d = 0: (R - C) t = capital
    """
    decay = -np.log1p(-np.asarray(price_decline, dtype=float))
    revenue = np.asarray(revenue_usd_per_year, dtype=float)
    margin = revenue - running_usd_per_year
    with np.errstate(divide="ignore", invalid="ignore"):
        # After the peak a year earns less than it costs, so what is not paid back by then never is.
        without_decline = capex_usd / margin
        peak = np.where(decay > 0.0, np.log(revenue / running_usd_per_year) / decay, without_decline)
    peak = np.where(margin > 0.0, peak, 0.0)
    # Bisection on all draws at once: what was earned rises until the peak, so there is one crossing at most.
    low = np.zeros_like(peak)
    high = peak.copy()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        is_paid = _earned(middle, revenue, running_usd_per_year, decay) >= capex_usd
        high = np.where(is_paid, middle, high)
        low = np.where(is_paid, low, middle)
    is_ever_paid = _earned(peak, revenue, running_usd_per_year, decay) >= capex_usd * (1.0 - 1e-12)
    return np.where((margin > 0.0) & is_ever_paid, high, np.inf)[()]


def _earned(years: Value, revenue: Value, running_usd_per_year: Value, decay: Value) -> Value:
    """Return revenue less running costs since the start [USD]."""
    # (1 - e^-kt) / k, whose limit at k = 0 is t.
    safe_decay = np.where(np.asarray(decay) > 0.0, decay, 1.0)
    effective_years = np.where(np.asarray(decay) > 0.0, -np.expm1(-safe_decay * years) / safe_decay, years)
    return revenue * effective_years - running_usd_per_year * years


def net_present_value(
    *,
    capex_usd: float,
    revenue_usd_per_year: float,
    running_usd_per_year: float,
    rate: float,
    years: float,
    price_decline: float = 0.0,
    fill_months: float = 0.0,
) -> float:
    """Return the value today of a site over its life [USD], month by month.

    Args:
        capex_usd: Capital, spent at the start.
        revenue_usd_per_year: Revenue of a full site at the price of the first day.
        running_usd_per_year: Electricity and other operation; due from the start.
        rate: Cost of capital a year.
        years: Life of the machines.
        price_decline: Share by which the price falls each year.
        fill_months: Time over which the site fills up, at an even pace.
    """
    # Middles of the months. Payments in the course of a month are discounted as if made then.
    months = np.arange(round(12.0 * years)) + 0.5
    filled = np.minimum(1.0, months / max(fill_months, 1e-9))
    price = (1.0 - price_decline) ** (months / 12.0)
    discount = (1.0 + rate) ** (-months / 12.0)
    monthly = (revenue_usd_per_year * filled * price - running_usd_per_year) / 12.0
    return float((monthly * discount).sum()) - capex_usd


def marginal_tokens_per_s_per_w(
    *, speed_before: float, speed_after: float, power_before_w: float, power_after_w: float
) -> float:
    """Return the tokens a second that each further watt has brought; NaN if no watt was added."""
    added_w = power_after_w - power_before_w
    if not added_w > 0.0:
        return float("nan")
    return (speed_after - speed_before) / added_w
