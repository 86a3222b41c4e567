"""Key figures of a run and of a site, as pure functions.

Energy is gross IT energy [J] inside the meter's boundary; the power usage effectiveness (PUE) enters here and
nowhere else, once. A figure of a count of zero is NaN. Bounds propagate through `Interval.map`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, nan
from statistics import fmean, pstdev

from factory.energy.types import Interval

_J_PER_KWH = 3.6e6
_SECONDS_PER_YEAR = 3.1536e7


# ---- output per energy ------------------------------------------------------------------------------------


def joules_per_token(energy_j: float, *, tokens: int) -> float:
    """Return E / T [J/token]."""
    return energy_j / tokens if tokens > 0 else nan


def tokens_per_joule(energy_j: float, *, tokens: int) -> float:
    """Return T / E [token/J], the inverse of joules per token."""
    return tokens / energy_j if energy_j > 0.0 and tokens > 0 else nan


def cpu_s_per_token(cpu_s: float, *, tokens: int) -> float:
    """Return CPU time per token [s/token], the figure that needs no power counter."""
    return cpu_s / tokens if tokens > 0 else nan


def tokens_per_s_per_mw(joules_per_token: float) -> float:
    """Return (T/t) / (E/t) for 1 MW drawn [token/s/MW]: 1e6 / (J/token), the same figure turned over."""
    return 1e6 / joules_per_token if joules_per_token > 0.0 else nan


def tokens_per_s_per_mw_provisioned(
    tokens_per_s: float, *, provisioned_it_w: float, pue: float = 1.0
) -> float:
    """Return token rate for 1 MW provided [token/s/MW], whether drawn or not.

    Args:
        tokens_per_s: Rate of the line [token/s].
        provisioned_it_w: IT power set aside for the line [W].
        pue: 1 for a figure per IT megawatt, the site's PUE for one per facility megawatt.
    """
    return tokens_per_s / (provisioned_it_w * pue) * 1e6


def net_energy(energy: Interval, *, idle_w: Interval, wall_s: float) -> Interval:
    """Return gross energy less what the machine draws idle [J]; shown beside the gross figure, never instead.

    Args:
        energy: Gross energy [J].
        idle_w: Idle power before the run [W], over 60 s or more at the same settings.
        wall_s: Duration of the run [s].
    """
    value, lo, hi = (
        energy.value - idle_w.value * wall_s,
        energy.lo - idle_w.hi * wall_s,
        energy.hi - idle_w.lo * wall_s,
    )
    return Interval(value, lo, hi)


# ---- money and carbon -------------------------------------------------------------------------------------


def kwh_per_mtoken(joules_per_token: float) -> float:
    """Return IT energy per million tokens [kWh]."""
    return joules_per_token * 1e6 / _J_PER_KWH


def usd_electricity_per_mtoken(joules_per_token: float, *, pue: float, price_usd_per_kwh: float) -> float:
    """Return the cost of electricity per million tokens [USD]."""
    return kwh_per_mtoken(joules_per_token) * pue * price_usd_per_kwh


def gco2e_per_mtoken(
    joules_per_token: float, *, pue: float, carbon_g_per_kwh: float, embodied_g_per_mtoken: float = 0.0
) -> float:
    """Return the carbon per million tokens [g CO2e]: of operation, and what is given for manufacture."""
    return kwh_per_mtoken(joules_per_token) * pue * carbon_g_per_kwh + embodied_g_per_mtoken


def embodied_g_per_mtoken(embodied_g_per_device_s: float, *, devices: int, tokens_per_s: float) -> float:
    """Return the share of manufacture per million tokens [g CO2e]."""
    return embodied_g_per_device_s * devices / tokens_per_s * 1e6


def capital_recovery_factor(rate: float, *, years: float) -> float:
    """Return the yearly payment that repays a capital of 1 with interest: r (1+r)^n / ((1+r)^n - 1)."""
    if rate == 0.0:
        return 1.0 / years
    growth = (1.0 + rate) ** years
    return rate * growth / (growth - 1.0)


def usd_capital_per_mtoken(
    capex_usd_per_mw: float, *, rate: float, years: float, utilisation: float, tokens_per_s_per_mw: float
) -> float:
    """Return the cost of capital per million tokens [USD].

    Args:
        capex_usd_per_mw: Capital per provisioned megawatt [USD/MW].
        rate: Yearly interest, 0.1 for 10 %.
        years: Depreciation [y].
        utilisation: Share of the time the capacity makes tokens.
        tokens_per_s_per_mw: Token rate per provisioned megawatt [token/s/MW].
    """
    yearly_usd = capex_usd_per_mw * capital_recovery_factor(rate, years=years)
    return yearly_usd / (_SECONDS_PER_YEAR * utilisation * tokens_per_s_per_mw) * 1e6


def payback_years(capex_usd: float, *, revenue_usd: float, electricity_usd: float, opex_usd: float) -> float:
    """Return the years until yearly margin has repaid the capital [y]; infinite without a margin."""
    margin_usd = revenue_usd - electricity_usd - opex_usd
    return capex_usd / margin_usd if margin_usd > 0.0 else inf


def capped_site_gain(speed: float, *, energy_ratio: float, overhead: float) -> float:
    """Return the gain in output of a power-limited site whose devices are capped: s (1+h) / (e s + h).

    Args:
        speed: Speed of a capped device relative to an uncapped one, s.
        energy_ratio: Energy per unit of work relative to uncapped, e.
        overhead: Power outside the device relative to the device's uncapped power, h.
    """
    return speed * (1.0 + overhead) / (energy_ratio * speed + overhead)


# ---- outcome ----------------------------------------------------------------------------------------------


def kaplan_meier_median(spent: Sequence[float], *, is_reached: Sequence[bool]) -> float:
    """Return the median cost to the threshold over seeds; infinite if half of the runs never get there.

    Runs that did not get there stay in as censored. Kaplan and Meier, 1958: S(x) = product over events at or
    below x of (1 - events / at risk).
    """
    survival = 1.0
    runs = sorted(zip(spent, is_reached, strict=True))
    for cost in sorted({cost for cost, reached in runs if reached}):
        at_risk = sum(other >= cost for other, _ in runs)
        events = sum(other == cost and reached for other, reached in runs)
        survival *= 1.0 - events / at_risk
        if survival <= 0.5 + 1e-12:
            return cost
    return inf


def steady_start(rates: Sequence[float], *, window: int = 10, largest_cv: float = 0.05) -> int | None:
    """Return the first iteration from which throughput is steady, None if it never is.

    Args:
        rates: Throughput of each iteration, any unit.
        window: Iterations that have to agree.
        largest_cv: Coefficient of variation (standard deviation over mean) they may have.
    """
    for start in range(len(rates) - window + 1):
        part = rates[start : start + window]
        mean = fmean(part)
        if isfinite(mean) and mean > 0.0 and pstdev(part) <= largest_cv * mean:
            return start
    return None
