"""Key figures: identities, published numbers, censoring, propagation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.energy import kpi
from factory.energy.types import Interval
from factory.energy.uncertainty import coverage_u_j, expanded_j, quantisation_u_j

POSITIVE = st.floats(1e-6, 1e12)
TOKENS = st.integers(1, 10**12)


@given(energy_j=POSITIVE, tokens=TOKENS, wall_s=POSITIVE)
def test_identities_of_output_per_energy(energy_j: float, tokens: int, wall_s: float) -> None:
    """(J/tok) T = E; tok/J is its inverse; tok/s/MW is 1e6 / (J/tok), from rates or from joules."""
    figure = kpi.joules_per_token(energy_j, tokens=tokens)
    assert figure * tokens == pytest.approx(energy_j)
    assert kpi.tokens_per_joule(energy_j, tokens=tokens) * figure == pytest.approx(1.0)
    assert kpi.tokens_per_s_per_mw(figure) == pytest.approx((tokens / wall_s) / (energy_j / wall_s) * 1e6)
    assert kpi.tokens_per_s_per_mw(figure) * figure == pytest.approx(1e6)


@given(
    figure=st.floats(1e-6, 1e6),
    pue=st.floats(1.0, 3.0),
    price=st.floats(0.0, 1.0),
    carbon=st.floats(0.0, 1000.0),
)
def test_identities_of_cost_and_carbon(figure: float, pue: float, price: float, carbon: float) -> None:
    """kWh/Mtok = (J/tok)/3.6, and dollars and grams are that times PUE times price or intensity."""
    assert kpi.kwh_per_mtoken(figure) == pytest.approx(figure / 3.6)
    cost = kpi.usd_electricity_per_mtoken(figure, pue=pue, price_usd_per_kwh=price)
    grams = kpi.gco2e_per_mtoken(figure, pue=pue, carbon_g_per_kwh=carbon)
    assert cost == pytest.approx(figure * pue * price / 3.6)
    assert grams == pytest.approx(figure * pue * carbon / 3.6)


def test_embodied_carbon_is_added() -> None:
    """Manufacture adds its share per token, independent of the grid."""
    embodied = kpi.embodied_g_per_mtoken(0.002, devices=4, tokens_per_s=100.0)
    assert embodied == pytest.approx(80.0)
    total = kpi.gco2e_per_mtoken(0.0, pue=1.2, carbon_g_per_kwh=475.0, embodied_g_per_mtoken=embodied)
    assert total == pytest.approx(80.0)


def test_provisioned_and_drawn_megawatts_differ() -> None:
    """A line that draws half of what it was given makes half per megawatt provided."""
    tokens_per_s, drawn_w, given_w = 1000.0, 500.0, 1000.0
    drawn = kpi.tokens_per_s_per_mw(drawn_w / tokens_per_s)
    provided = kpi.tokens_per_s_per_mw_provisioned(tokens_per_s, provisioned_it_w=given_w)
    assert provided == pytest.approx(drawn / 2.0)
    facility = kpi.tokens_per_s_per_mw_provisioned(tokens_per_s, provisioned_it_w=given_w, pue=1.25)
    assert facility == pytest.approx(provided / 1.25)


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_tokens_is_nan(tokens: int) -> None:
    """Nothing made is no figure, neither zero nor infinity."""
    assert math.isnan(kpi.joules_per_token(5.0, tokens=tokens))
    assert math.isnan(kpi.tokens_per_joule(5.0, tokens=tokens))
    assert math.isnan(kpi.cpu_s_per_token(5.0, tokens=tokens))
    assert math.isnan(kpi.tokens_per_s_per_mw(math.nan))


@pytest.mark.parametrize(
    ("usd_per_gw", "years", "musd_per_mw_year"),
    [(35e9, 5, 9.23), (55e9, 5, 14.5), (80e9, 5, 21.1), (35e9, 3, 14.1), (55e9, 3, 22.1), (80e9, 3, 32.2)],
)
def test_capital_recovery_of_published_build_outs(
    usd_per_gw: float, years: int, musd_per_mw_year: float
) -> None:
    """At 10 % the yearly capital per megawatt is the one of the sanity table."""
    yearly = usd_per_gw / 1000.0 * kpi.capital_recovery_factor(0.10, years=years) / 1e6
    assert yearly == pytest.approx(musd_per_mw_year, rel=0.005)


def test_capital_recovery_without_interest_is_the_plain_share() -> None:
    """At 0 % a capital is repaid in equal parts, and small rates approach it."""
    assert kpi.capital_recovery_factor(0.0, years=5) == pytest.approx(0.2)
    assert kpi.capital_recovery_factor(1e-7, years=5) == pytest.approx(0.2, rel=1e-5)


@given(rate=st.floats(0.001, 0.5), years=st.integers(1, 30))
def test_capital_recovery_repays_exactly(rate: float, years: int) -> None:
    """The discounted payments sum to the capital."""
    payment = kpi.capital_recovery_factor(rate, years=years)
    assert sum(payment / (1.0 + rate) ** year for year in range(1, years + 1)) == pytest.approx(1.0)


def test_capital_per_token_and_payback() -> None:
    """A megawatt-year's capital is spread over its tokens; no margin never pays back."""
    cost = kpi.usd_capital_per_mtoken(35e6, rate=0.0, years=5, utilisation=0.5, tokens_per_s_per_mw=1e6)
    assert cost == pytest.approx(7e6 / (3.1536e7 * 0.5 * 1e6) * 1e6)
    assert kpi.payback_years(100.0, revenue_usd=60.0, electricity_usd=10.0, opex_usd=10.0) == pytest.approx(
        2.5
    )
    assert kpi.payback_years(100.0, revenue_usd=20.0, electricity_usd=10.0, opex_usd=10.0) == math.inf


def test_gain_of_a_capped_site() -> None:
    """15 % energy at 3 % time: 17.6 % more without overhead, 13 % more with 24 % of it, nothing uncapped."""
    assert kpi.capped_site_gain(0.97, energy_ratio=0.85, overhead=0.0) == pytest.approx(1.176, abs=5e-4)
    assert kpi.capped_site_gain(0.97, energy_ratio=0.85, overhead=0.24) == pytest.approx(1.13, abs=2e-3)
    assert kpi.capped_site_gain(1.0, energy_ratio=1.0, overhead=0.3) == pytest.approx(1.0)


@given(value=POSITIVE, spread=st.floats(0.0, 0.9), tokens=TOKENS)
def test_intervals_propagate_through_rising_and_falling_figures(
    value: float, spread: float, tokens: int
) -> None:
    """Relative width survives J/token, and bounds change sides for tok/J."""
    energy = Interval.around(value, half_width=spread * value)
    per_token = energy.map(lambda energy_j: kpi.joules_per_token(energy_j, tokens=tokens))
    per_joule = energy.map(lambda energy_j: kpi.tokens_per_joule(energy_j, tokens=tokens))
    assert per_token.hi - per_token.lo == pytest.approx(2.0 * spread * per_token.value, rel=1e-9, abs=1e-9)
    assert per_joule.lo <= per_joule.value <= per_joule.hi
    assert per_joule.lo == pytest.approx(tokens / energy.hi)


def test_interval_arithmetic() -> None:
    """Bounds add to bounds, energy is never below zero, and membership includes the ends."""
    joined = Interval(10.0, 8.0, 12.0) + Interval(5.0, 5.0, 7.0)
    assert joined == Interval(15.0, 13.0, 19.0)
    assert Interval.around(1.0, half_width=3.0).lo == 0.0
    assert 13.0 in joined
    assert 12.9 not in joined


def test_idle_subtraction_widens_the_interval() -> None:
    """Net energy keeps the uncertainty of both the gross and the idle figure."""
    net = kpi.net_energy(Interval(1000.0, 950.0, 1050.0), idle_w=Interval(50.0, 45.0, 55.0), wall_s=10.0)
    assert net == Interval(500.0, 400.0, 600.0)


def test_uncertainties_combine_as_written() -> None:
    """P tau / sqrt(6), tau sqrt(n) sigma, k = 2."""
    assert quantisation_u_j(300.0, period_s=0.1) == pytest.approx(30.0 / math.sqrt(6.0))
    assert coverage_u_j(350.0, max_w=700.0, period_s=0.1, duration_s=10.0) == pytest.approx(350.0)
    assert coverage_u_j(700.0, max_w=700.0, period_s=0.1, duration_s=10.0) == 0.0
    assert expanded_j(3.0, 4.0) == pytest.approx(10.0)


# ---- outcome ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spent", "is_reached", "median"),
    [
        ([3.0, 1.0, 2.0], [True, True, True], 2.0),
        ([1.0, 2.0, 9.0], [True, True, False], 2.0),
        ([1.0, 9.0, 9.0], [True, False, False], math.inf),
        ([1.0, 2.0, 3.0, 4.0], [False, True, True, True], 3.0),
        ([5.0], [False], math.inf),
        ([], [], math.inf),
    ],
)
def test_median_over_seeds_keeps_censored_runs(
    spent: list[float], is_reached: list[bool], median: float
) -> None:
    """The Kaplan-Meier median counts runs that gave up as at risk until they did."""
    assert kpi.kaplan_meier_median(spent, is_reached=is_reached) == median


def test_steady_state_starts_after_the_warm_up() -> None:
    """Throughput is steady once ten iterations agree within 5 %; a run that never settles has none."""
    rates = [10.0, 200.0, 600.0, *([1000.0, 1010.0] * 10)]
    assert kpi.steady_start(rates) == 3
    assert kpi.steady_start([1.0, 2.0] * 20) is None
    assert kpi.steady_start([1.0] * 9) is None
