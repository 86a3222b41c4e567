"""Economics of a site: examples worked by hand, identities, and the bands of published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from factory.energy import economics, kpi

MW = 1e6


@pytest.mark.parametrize(
    ("usd_per_w", "years", "musd_per_mw_year"),
    [(35, 3, 14.1), (35, 5, 9.23), (47, 3, 18.9), (47, 5, 12.4), (47, 6, 10.8), (55, 5, 14.5), (80, 3, 32.2)],
)
def test_capital_a_year_is_that_of_published_tables(
    usd_per_w: float, years: float, musd_per_mw_year: float
) -> None:
    """Capital of a megawatt at 10 % interest, to the digits of the published tables."""
    factor = economics.capital_recovery_factor(0.10, years=years)
    assert usd_per_w * MW * factor / 1e6 == pytest.approx(musd_per_mw_year, rel=5e-3)


def test_sanity_bands_hold() -> None:
    """Capital 9 to 19 M USD, electricity 0.35 to 1.32 M USD, and capital over electricity 8 to 30."""
    capital = [
        usd_per_w * MW * economics.capital_recovery_factor(0.10, years=years)
        for usd_per_w in (35.0, 47.0)
        for years in (3.0, 5.0)
    ]
    assert min(capital) > 9e6
    assert max(capital) < 19e6
    electricity = [
        economics.electricity_usd_per_year(MW, price_usd_per_kwh=price) for price in (0.04, 0.07, 0.15)
    ]
    assert electricity[0] == pytest.approx(0.35e6, rel=0.01)
    assert electricity[1] == pytest.approx(0.6136e6, rel=1e-3)
    assert electricity[2] == pytest.approx(1.315e6, rel=1e-3)
    ratios = [one / electricity[1] for one in capital]
    assert all(8.0 < ratio < 31.0 for ratio in ratios)


def test_recovery_factor_is_that_of_an_annuity() -> None:
    """The payments are worth the capital today; without interest each year pays an equal part."""
    factor = economics.capital_recovery_factor(0.07, years=9.0)
    worth_today = math.fsum(factor / 1.07**year for year in range(1, 10))
    assert worth_today == pytest.approx(1.0, abs=1e-9)
    assert economics.capital_recovery_factor(0.0, years=8.0) == pytest.approx(0.125, abs=1e-12)
    assert economics.capital_recovery_factor(1e-12, years=8.0) == pytest.approx(0.125, abs=1e-9)


def test_published_prices_of_tokens_are_met() -> None:
    """At 1e6 tokens/s for each megawatt, 47 USD/W and 7 cents, break-even prices are those published."""
    table = {(0.4, 3): 1.52, (0.6, 3): 1.02, (0.8, 3): 0.77, (0.4, 5): 1.00, (0.6, 5): 0.68, (0.8, 6): 0.45}
    for (used, years), usd_per_mtoken in table.items():
        mtokens = 1e6 * used * economics.S_PER_DAY * economics.DAYS_PER_YEAR / 1e6
        cost = 47.0 * MW * economics.capital_recovery_factor(0.10, years=float(years))
        # The table charges electricity for the time in use.
        cost += used * economics.electricity_usd_per_year(MW, price_usd_per_kwh=0.07)
        price = economics.breakeven_usd(cost, units_per_year=mtokens)
        assert price == pytest.approx(usd_per_mtoken, rel=0.02)


def test_identities_of_energy_and_output_hold() -> None:
    """Tokens a second and megawatt are 1e6 over joules a token; cost per million tokens adds up."""
    joules_per_token = 392e-6
    per_mw = 1e6 * kpi.tokens_per_joule(392.0, tokens=1_000_000)
    assert per_mw == pytest.approx(1e6 / joules_per_token, rel=1e-12)
    year_tokens = per_mw * economics.S_PER_DAY * economics.DAYS_PER_YEAR
    electricity = economics.electricity_usd_per_year(1.2 * MW, price_usd_per_kwh=0.07)
    by_year = economics.breakeven_usd(electricity, units_per_year=year_tokens / 1e6)
    by_token = kpi.usd_electricity_per_mtoken(joules_per_token, pue=1.2, price_usd_per_kwh=0.07)
    assert by_year == pytest.approx(by_token, rel=1e-9)
    carbon_t = economics.tco2e_per_year(1.2 * MW, carbon_g_per_kwh=475.0)
    grams = kpi.gco2e_per_mtoken(joules_per_token, pue=1.2, carbon_g_per_kwh=475.0)
    assert carbon_t * 1e6 / (year_tokens / 1e6) == pytest.approx(grams, rel=1e-9)


def test_machines_of_a_megawatt_by_hand() -> None:
    """1 MW at PUE 1.25 leaves 800 kW; 400 W machines take 500 W at the wall: 1520 with a reserve of 5 %."""
    it_w = economics.it_power_w(MW, pue=1.25)
    wall_w = economics.wall_power_w(400.0, outside_share=0.125, chain_efficiency=0.9)
    assert it_w == pytest.approx(800e3)
    assert wall_w == pytest.approx(500.0)
    assert economics.num_nodes(it_w, wall_w=wall_w, reserve=0.05) == pytest.approx(1520.0)
    load = economics.mean_load(idle_share=0.3, utilisation=0.5)
    assert load == pytest.approx(0.65)
    # 800 kW of IT at 65 % are 520 kW; of 200 kW of overhead 80 stay, and 65 % of 120 are 78.
    mean_w = economics.mean_power_w(MW, pue=1.25, fixed_overhead=0.4, load=load)
    assert mean_w == pytest.approx(678e3)
    assert economics.mean_power_w(MW, pue=1.25, fixed_overhead=0.4, load=1.0) == pytest.approx(MW)
    assert economics.pue_at_load(0.5, fixed=0.05, proportional=0.1) == pytest.approx(1.2)


def test_gangs_lose_more_time_than_single_machines() -> None:
    """At 4 failures in 1000 node-days and 5 minutes each, 1 machine loses 1.4e-5 and 2048 lose 2.8 %."""
    failures = {"failures_per_node_day": 4e-3, "lost_s": 300.0}
    assert 1.0 - economics.productive_share(gang=1, **failures) == pytest.approx(1.4e-5, rel=0.02)
    assert 1.0 - economics.productive_share(gang=2048, **failures) == pytest.approx(0.028, rel=0.02)
    assert economics.productive_share(gang=10**6, **failures) == 0.0


def test_payback_by_hand_and_its_bounds() -> None:
    """100 USD at 30 a year less 5 take 4 years; without a margin, it never comes."""
    flat = economics.payback_years(capex_usd=100.0, revenue_usd_per_year=30.0, running_usd_per_year=5.0)
    assert flat == pytest.approx(4.0, abs=1e-9)
    never = economics.payback_years(capex_usd=100.0, revenue_usd_per_year=5.0, running_usd_per_year=5.0)
    assert never == math.inf
    revenue = np.array([20.0, 100.0, 200.0, 1000.0])
    falling = economics.payback_years(
        capex_usd=100.0, revenue_usd_per_year=revenue, running_usd_per_year=5.0, price_decline=0.4
    )
    assert falling[0] == math.inf
    # It never comes sooner than capital over revenue.
    assert (falling >= 100.0 / revenue).all()
    # R (1 - f^t) / -ln f - C t = capital at the time that was found.
    decay = -math.log(0.6)
    earned = revenue[1:] * (1.0 - np.exp(-decay * falling[1:])) / decay - 5.0 * falling[1:]
    assert earned == pytest.approx(100.0, rel=1e-9)


def test_required_output_pays_back_in_exactly_that_time() -> None:
    """Making the required number of units at the price takes the years that were asked for."""
    wanted = {"capex_usd": 7e6, "running_usd_per_year": 3e5}
    units = economics.required_units_per_day(price_usd=2.5, years=3.0, **wanted)
    revenue = units * economics.DAYS_PER_YEAR * 2.5
    assert economics.payback_years(revenue_usd_per_year=revenue, **wanted) == pytest.approx(3.0, abs=1e-9)


def test_present_value_is_nil_at_the_break_even_price() -> None:
    """With monthly payments of a monthly annuity nothing is gained; filling up slowly costs."""
    months = np.arange(60) + 0.5
    annuity = 12.0 / (1.1 ** (-months / 12.0)).sum()
    plan = {"capex_usd": 1.0, "running_usd_per_year": 0.2, "rate": 0.1, "years": 5.0}
    assert economics.net_present_value(revenue_usd_per_year=annuity + 0.2, **plan) == pytest.approx(
        0.0, abs=1e-9
    )
    assert economics.net_present_value(revenue_usd_per_year=annuity + 0.2, fill_months=12.0, **plan) < -0.05


def test_marginal_watt_by_hand() -> None:
    """500 tokens/s for 2 W more are 250 for each; without more power there is no answer."""
    speeds = {"speed_before": 1000.0, "speed_after": 1500.0, "power_before_w": 10.0}
    assert economics.marginal_tokens_per_s_per_w(power_after_w=12.0, **speeds) == pytest.approx(250.0)
    assert math.isnan(economics.marginal_tokens_per_s_per_w(power_after_w=10.0, **speeds))
