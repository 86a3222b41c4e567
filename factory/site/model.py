"""The equations of a site: one value for each draw of its inputs, or one for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from factory.energy import economics
from factory.energy.economics import DAYS_PER_YEAR, S_PER_DAY, Value
from factory.site.workload import Workload

_S_PER_H = 3600.0
_W_PER_KW = 1000.0
_W_PER_MW = 1e6
_TOKENS_PER_GTOKEN = 1e9


class Output(NamedTuple):
    """A result of the model."""

    name: str
    label: str
    unit: str = ""


OUTPUTS: tuple[Output, ...] = (
    Output("good_policies_per_day", "Good policies a day"),
    Output("good_policies_per_mw_day", "Good policies a day per megawatt"),
    Output("good_policies_per_usd", "Good policies per dollar"),
    Output("good_policies_per_tco2e", "Good policies per ton of CO2e"),
    Output("gtokens_per_day", "Gtokens a day"),
    Output("gtokens_per_mw_day", "Gtokens a day per megawatt"),
    Output("gtokens_per_usd", "Gtokens per dollar"),
    Output("gtokens_per_tco2e", "Gtokens per ton of CO2e"),
    Output("capex_usd", "Capital", "USD"),
    Output("capex_usd_per_year", "Capital a year", "USD"),
    Output("electricity_usd_per_year", "Electricity a year", "USD"),
    Output("opex_usd_per_year", "Other operation a year", "USD"),
    Output("cost_usd_per_year", "Cost a year", "USD"),
    Output("revenue_usd_per_year", "Revenue of the first year", "USD"),
    Output("policy_usd", "Price of a good policy", "USD"),
    Output("breakeven_usd_per_policy", "Break-even price of a good policy", "USD"),
    Output("breakeven_usd_per_gtoken", "Break-even price of a Gtoken", "USD"),
    Output("payback_years", "Payback", "years"),
    Output("tco2e_per_year", "Carbon of a year's operation", "t CO2e"),
    Output("machines", "Machines"),
    Output("accelerators", "Accelerators on the same power"),
    Output("utilisation", "Utilisation", "%"),
)
"""Results, in the order in which tables show them."""


# A site that makes nothing has an infinite price, which is no reason to warn.
@np.errstate(divide="ignore")
def evaluate(
    inputs: Mapping[str, Value],
    workload: Workload,
    *,
    facility_w: float,
    gang: int = 1,
    policy_usd: float | None = None,
) -> dict[str, Value]:
    """Return every output.

    Args:
        inputs: Values of the site's and the workload's inputs.
        workload: Work of one machine.
        facility_w: Power of the site [W].
        gang: Machines that stop together when one fails.
        policy_usd: Price of a good policy [USD]; None for the rent of the same compute in a public cloud.
    """
    work = _work(inputs, workload, facility_w, gang)
    cost = _cost(inputs, facility_w, utilisation=work.utilisation)

    # Worth: policies at a price, against what has to be paid each year.
    price_usd = _price(inputs, workload, work.tokens_per_policy)
    if policy_usd is not None:
        # Keeps the shape, one value for each draw.
        price_usd = price_usd * 0.0 + policy_usd
    policies_per_year = work.policies_per_day * DAYS_PER_YEAR
    gtokens_per_year = work.tokens_per_day / _TOKENS_PER_GTOKEN * DAYS_PER_YEAR
    revenue_usd = policies_per_year * price_usd
    payback = economics.payback_years(
        capex_usd=cost.capex_usd,
        revenue_usd_per_year=revenue_usd,
        running_usd_per_year=cost.electricity_usd + cost.opex_usd,
        price_decline=inputs["price_decline"],
    )
    megawatts = facility_w / _W_PER_MW
    return {
        "good_policies_per_day": work.policies_per_day,
        "good_policies_per_mw_day": work.policies_per_day / megawatts,
        "good_policies_per_usd": policies_per_year / cost.total_usd,
        "good_policies_per_tco2e": policies_per_year / cost.carbon_t,
        "gtokens_per_day": gtokens_per_year / DAYS_PER_YEAR,
        "gtokens_per_mw_day": gtokens_per_year / DAYS_PER_YEAR / megawatts,
        "gtokens_per_usd": gtokens_per_year / cost.total_usd,
        "gtokens_per_tco2e": gtokens_per_year / cost.carbon_t,
        "capex_usd": cost.capex_usd,
        "capex_usd_per_year": cost.capital_usd,
        "electricity_usd_per_year": cost.electricity_usd,
        "opex_usd_per_year": cost.opex_usd,
        "cost_usd_per_year": cost.total_usd,
        "revenue_usd_per_year": revenue_usd,
        "policy_usd": price_usd,
        "breakeven_usd_per_policy": economics.breakeven_usd(cost.total_usd, units_per_year=policies_per_year),
        "breakeven_usd_per_gtoken": economics.breakeven_usd(cost.total_usd, units_per_year=gtokens_per_year),
        "payback_years": payback,
        "tco2e_per_year": cost.carbon_t,
        "machines": work.machines,
        "accelerators": facility_w / _W_PER_KW / inputs["kw_per_accelerator"],
        "utilisation": work.utilisation,
    }


class _Work(NamedTuple):
    """Work that a site does."""

    machines: Value
    utilisation: Value
    tokens_per_day: Value
    tokens_per_policy: Value
    """Tokens that go into a good policy, failed attempts included."""
    policies_per_day: Value
    """Good ones."""


def _work(inputs: Mapping[str, Value], workload: Workload, facility_w: float, gang: int) -> _Work:
    """Return the machines that the power feeds, times the speed of one, times the time that counts."""
    machines, utilisation = _machines(inputs, workload, facility_w, gang)
    tokens_per_s = machines * workload.machine.tokens_per_s * utilisation * inputs["transfer"]
    tokens_per_day = tokens_per_s * S_PER_DAY
    # Failed attempts are paid for by the good ones.
    tokens_per_policy = inputs["tokens_per_run"] / inputs["good_share"]
    return _Work(machines, utilisation, tokens_per_day, tokens_per_policy, tokens_per_day / tokens_per_policy)


class _Cost(NamedTuple):
    """Cost of a site; of a year, but for the capital itself."""

    capex_usd: Value
    capital_usd: Value
    """Constant payment that covers the capital over the life of the machines."""
    electricity_usd: Value
    opex_usd: Value
    carbon_t: Value
    """[t CO2e]"""

    @property
    def total_usd(self) -> Value:
        """Cost of a year."""
        return self.capital_usd + self.electricity_usd + self.opex_usd


def _cost(inputs: Mapping[str, Value], facility_w: float, *, utilisation: Value) -> _Cost:
    """Return the cost of a site whose machines do work that counts for a share of the time."""
    capex_usd = inputs["capex_usd_per_w"] * facility_w
    recovery = economics.capital_recovery_factor(inputs["rate"], years=inputs["life_years"])

    # Electricity at the mean power: machines that wait draw less, and the PUE is worse at part load.
    load = economics.mean_load(idle_share=inputs["idle_share"], utilisation=utilisation)
    mean_w = economics.mean_power_w(
        facility_w, pue=inputs["pue"], fixed_overhead=inputs["fixed_overhead"], load=load
    )
    price_usd_per_kwh = inputs["price_usd_per_kwh"]
    return _Cost(
        capex_usd=capex_usd,
        capital_usd=capex_usd * recovery,
        electricity_usd=economics.electricity_usd_per_year(mean_w, price_usd_per_kwh=price_usd_per_kwh),
        opex_usd=inputs["opex_share"] * capex_usd,
        carbon_t=economics.tco2e_per_year(mean_w, carbon_g_per_kwh=inputs["carbon_g_per_kwh"]),
    )


def _machines(
    inputs: Mapping[str, Value], workload: Workload, facility_w: float, gang: int
) -> tuple[Value, Value]:
    """Return the machines in service, and the share of time in which each makes output that counts."""
    # From the meter to the wall: what its boundary leaves out, and the losses of the supply.
    wall_w = economics.wall_power_w(
        workload.machine.power_w.value * inputs["meter_gain"],
        outside_share=inputs["outside_share"],
        chain_efficiency=inputs["chain_efficiency"],
    )
    # From the grid to the machines; in between lies the PUE.
    it_w = economics.it_power_w(facility_w, pue=inputs["pue"])
    installed = economics.num_nodes(it_w, wall_w=wall_w, reserve=inputs["reserve"])
    productive = economics.productive_share(
        gang=gang, failures_per_node_day=inputs["failures_per_node_day"], lost_s=inputs["lost_s"]
    )
    utilisation = economics.utilisation(
        scheduled=inputs["scheduled"], productive=productive, maintenance=inputs["maintenance"]
    )
    return installed * (1.0 - inputs["spares"]), utilisation


def _price(inputs: Mapping[str, Value], workload: Workload, tokens_per_policy: Value) -> Value:
    """Return the rent of the compute of a good policy in a public cloud [USD]."""
    core_h_per_token = workload.machine.cpu_s_per_token / _S_PER_H
    usd_per_token = core_h_per_token * inputs["usd_per_core_hour"]
    if workload.uses_gpu:
        gpu_h_per_token = 1.0 / workload.machine.tokens_per_s / _S_PER_H
        usd_per_token = usd_per_token + gpu_h_per_token * inputs["usd_per_gpu_hour"]
    return tokens_per_policy * usd_per_token
