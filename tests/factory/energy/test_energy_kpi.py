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
    """(J/tok) T = E; tok/J is its inverse; tokens per second and megawatt are 1e6 tok/J."""
    figure = kpi.joules_per_token(energy_j, tokens=tokens)
    assert figure * tokens == pytest.approx(energy_j)
    assert kpi.tokens_per_joule(energy_j, tokens=tokens) * figure == pytest.approx(1.0)
    per_mw = (tokens / wall_s) / (energy_j / wall_s / 1e6)
    assert 1e6 * kpi.tokens_per_joule(energy_j, tokens=tokens) == pytest.approx(per_mw)


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


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_tokens_is_nan(tokens: int) -> None:
    """Nothing made is no figure, neither zero nor infinity."""
    assert math.isnan(kpi.joules_per_token(5.0, tokens=tokens))
    assert math.isnan(kpi.tokens_per_joule(5.0, tokens=tokens))
    assert math.isnan(kpi.cpu_s_per_token(5.0, tokens=tokens))
    assert math.isnan(kpi.tokens_per_joule(math.nan, tokens=5))


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
