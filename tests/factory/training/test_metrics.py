"""The ledger's figures from a meter's reading: cost, carbon, steady state, net energy, and where joules come
from.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from factory.energy.config import EnergyConfig, SiteConfig
from factory.energy.idle import idle_power
from factory.energy.ledger import EnergyLedger
from factory.energy.reading import MeterReading
from factory.energy.types import Interval, Tier
from factory.training import metrics
from factory.training.collector import EpisodeStats

NOWHERE = EnergyConfig(rapl_root="/nonexistent")


@pytest.fixture
def reading() -> MeterReading:
    """Return ten seconds of 100 J, 50 to 200, on an estimated CPU beside a GPU with a counter."""
    ledger = EnergyLedger(
        components_j={"cpu": 40.0, "gpu": 60.0},
        component_tier={"gpu": "measured", "cpu": "estimated"},
        lo_j=50.0,
        hi_j=200.0,
        tier="estimated",
        boundary="allocation+device",
    )
    ledger.slot_j[1], ledger.slot_s[1] = 100.0, 10.0
    return ledger.reading()


@pytest.mark.parametrize(("value", "kind"), [(0.5, "float"), (torch.zeros(3), r"shape \(3,\)")])
def test_a_result_of_an_update_that_is_no_scalar_is_named(value: Any, kind: str) -> None:
    """The line names the learner's method, the key and what it holds."""
    stats = EpisodeStats(sums={}, reward_terms=torch.zeros(0))
    with pytest.raises(
        TypeError, match=rf"learner\.update: 'policy' must be a tensor of one value, not {kind}"
    ):
        metrics.read_device(stats, {"policy": value})


def test_cost_and_carbon_are_joules_times_the_site() -> None:
    """3.6 J/token is 1 kWh per million tokens: twice that at PUE 2, times price and intensity."""
    site = SiteConfig(pue=2.0, price_usd_per_kwh=0.25, carbon_g_per_kwh=400.0)
    figures = metrics.site(3.6e6, 3.6, site)
    assert figures == {
        "factory/usd": pytest.approx(0.5),
        "factory/gco2e": pytest.approx(800.0),
        "factory/usd_per_mtoken": pytest.approx(0.5),
        "factory/gco2e_per_mtoken": pytest.approx(800.0),
    }
    assert metrics.site(math.nan, math.nan, site) == {}


def test_every_component_keeps_its_tier(reading: MeterReading) -> None:
    """An estimate beside a counter is shown as such, and so are the split into phases and what was lost."""
    tags = metrics.energy_tags(reading)
    assert tags["energy.tier"] == "estimated"
    assert tags["energy.components"] == "cpu estimated, gpu measured"
    assert tags["energy.phase_tier"] == "estimated"
    assert "energy.lost_s" not in tags
    assert metrics.energy_tags(replace(reading, lost_s=2.5))["energy.lost_s"] == "2.5"


def test_net_figure_stands_beside_the_gross_one_with_its_interval(reading: MeterReading) -> None:
    """4 W of idle power take 40 J off 100 J; the interval holds both gauges' errors."""
    gross = metrics.energy(reading, 10)["factory/joules_per_token"]
    figures, tags = metrics.net(reading, 10, Interval(4.0, 2.0, 8.0))
    assert gross == pytest.approx(10.0)
    assert figures == {"factory/net_joules_per_token": pytest.approx(6.0)}
    assert tags["energy.net_joules_per_token"] == "6 J/token [-3, 18]"
    assert metrics.net(reading, 10, None) == ({}, {})


def test_net_figure_is_left_out_where_other_hosts_were_metered(reading: MeterReading) -> None:
    """One host's idle power is not taken off the joules of several; a process beside the meter changes
    nothing.
    """
    idle, beside = Interval(4.0, 2.0, 8.0), replace(reading, tier=Tier.NONE)
    assert metrics.net(reading, 10, idle, [beside]) == metrics.net(reading, 10, idle)
    assert metrics.net(reading, 10, idle, [beside, reading]) == ({}, {})


def test_idle_power_is_taken_only_where_asked_for_and_metered() -> None:
    """A run that did not ask does not wait, and one that meters nothing has no idle power."""
    idle = idle_power(replace(NOWHERE, idle_s=0.05), "cpu")
    assert idle is not None
    assert 0.0 < idle.lo <= idle.value <= idle.hi
    assert idle_power(NOWHERE, "cpu") is None
    assert idle_power(replace(NOWHERE, source="null", idle_s=0.01), "cpu") is None


def rows(rates: list[float], *, joules_per_token: float = 0.5) -> list[dict[str, float]]:
    """Return the totals after iterations of one second each, the first of which cost a hundred joules
    more.
    """
    tokens, found = 0.0, []
    for index, rate in enumerate(rates):
        tokens += rate
        energy = {"energy/total_j": 100.0 + joules_per_token * tokens}
        found.append({"factory/tokens_total": tokens, "time/wall_s": index + 1.0, **energy})
    return found


def test_steady_state_leaves_the_warm_up_out() -> None:
    """Three slow iterations and the joules before them are not in the figures."""
    figures = metrics.steady(rows([10.0, 200.0, 500.0, *[1000.0] * 15]))
    assert figures["factory/steady_tokens_per_s"] == pytest.approx(1000.0)
    assert figures["factory/steady_joules_per_token"] == pytest.approx(0.5)


def test_run_that_never_settles_has_no_steady_state() -> None:
    """Throughput that goes up and down, or too few iterations, give no figure."""
    assert metrics.steady(rows([1000.0, 500.0] * 10)) == {}
    assert metrics.steady(rows([1000.0] * 5)) == {}
    assert metrics.steady([]) == {}


def test_steady_speed_needs_no_meter() -> None:
    """Without joules the speed is there all the same."""
    bare = [{key: value for key, value in row.items() if "energy" not in key} for row in rows([1000.0] * 15)]
    assert metrics.steady(bare) == {"factory/steady_tokens_per_s": pytest.approx(1000.0)}
