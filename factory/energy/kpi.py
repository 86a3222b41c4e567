"""Key metrics of a run, as pure functions.

Energy is gross IT energy [J] inside the meter's boundary. The power usage effectiveness (PUE) is applied
here, once, and nowhere else. A ratio to a count of zero is NaN. Bounds propagate through `Interval.map`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, nan
from statistics import fmean, pstdev

from factory.energy.types import Interval

# 1 kWh = 1000 W * 3600 s.
_J_PER_KWH = 3.6e6
_HALF = 0.5 + 1e-12
"""Survival at which the median is reached, with room for the rounding of a product of fractions."""


# ---- output per energy ------------------------------------------------------------------------------------


def joules_per_token(energy_j: float, *, tokens: int) -> float:
    """Return E / T [J/token]."""
    if tokens <= 0:
        return nan
    return energy_j / tokens


def tokens_per_joule(energy_j: float, *, tokens: int) -> float:
    """Return T / E [token/J]; times 1e6 it is tokens per second for each megawatt drawn."""
    if tokens <= 0 or not energy_j > 0.0:
        return nan
    return tokens / energy_j


def cpu_s_per_token(cpu_s: float, *, tokens: int) -> float:
    """Return CPU time per token [s/token], which needs no power counter."""
    if tokens <= 0:
        return nan
    return cpu_s / tokens


def net_energy(energy: Interval, *, idle_w: Interval, wall_s: float) -> Interval:
    """Return gross energy minus the idle energy of the machine, E - P_idle * t [J]; report it beside E.

    Args:
        energy: Gross energy [J].
        idle_w: Idle power before the run [W], over 60 s or more at the same settings.
        wall_s: Duration of the run [s].
    """
    # A difference is smallest where the gross energy is smallest and the idle power largest.
    value = energy.value - idle_w.value * wall_s
    lo = energy.lo - idle_w.hi * wall_s
    hi = energy.hi - idle_w.lo * wall_s
    return Interval(value, lo, hi)


# ---- money and carbon -------------------------------------------------------------------------------------


def kwh_per_mtoken(joules_per_token: float) -> float:
    """Return IT energy per million tokens [kWh]."""
    return joules_per_token * 1e6 / _J_PER_KWH


def usd_electricity(energy_j: float, *, pue: float, price_usd_per_kwh: float) -> float:
    """Return the cost of electricity [USD]."""
    return energy_j / _J_PER_KWH * pue * price_usd_per_kwh


def gco2e(energy_j: float, *, pue: float, carbon_g_per_kwh: float) -> float:
    """Return the carbon of operation [g CO2e]; manufacture is not in it."""
    return energy_j / _J_PER_KWH * pue * carbon_g_per_kwh


def usd_electricity_per_mtoken(joules_per_token: float, *, pue: float, price_usd_per_kwh: float) -> float:
    """Return the cost of electricity per million tokens [USD]."""
    return kwh_per_mtoken(joules_per_token) * pue * price_usd_per_kwh


def gco2e_per_mtoken(joules_per_token: float, *, pue: float, carbon_g_per_kwh: float) -> float:
    """Return the carbon of operation per million tokens [g CO2e]; manufacture is not in it."""
    return kwh_per_mtoken(joules_per_token) * pue * carbon_g_per_kwh


# ---- outcome ----------------------------------------------------------------------------------------------


def kaplan_meier_median(spent: Sequence[float], *, is_reached: Sequence[bool]) -> float:
    """Return the median cost to the threshold over seeds; infinite if half of the runs never reach it.

    Runs that never reached it are kept as right-censored. Kaplan and Meier, 1958:
    S(x) = product over costs c <= x of (1 - events at c / runs at risk at c).
    """
    # A censored run counts as at risk up to its own cost, and as an event nowhere.
    runs = sorted(zip(spent, is_reached, strict=True))
    costs_of_events = sorted({cost for cost, reached in runs if reached})
    survival = 1.0
    for cost in costs_of_events:
        at_risk = sum(other >= cost for other, _ in runs)
        events = sum(other == cost and reached for other, reached in runs)
        survival *= 1.0 - events / at_risk
        if survival <= _HALF:
            return cost
    return inf


def steady_start(rates: Sequence[float], *, window: int = 10, largest_cv: float = 0.05) -> int | None:
    """Return the first iteration from which throughput is steady, None if it never is.

    Args:
        rates: Throughput of each iteration, any unit.
        window: Number of consecutive iterations that have to agree.
        largest_cv: Largest coefficient of variation (standard deviation over mean) they may have.
    """
    for start in range(len(rates) - window + 1):
        part = rates[start : start + window]
        mean = fmean(part)
        # cv = sigma / mu <= largest_cv, written without the division.
        if isfinite(mean) and mean > 0.0 and pstdev(part) <= largest_cv * mean:
            return start
    return None
