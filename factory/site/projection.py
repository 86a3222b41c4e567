"""A projection: quantiles of every output, and the inputs that move them most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.energy.types import Tier
from factory.runtime.stored_files import visible
from factory.site import draws
from factory.site.draws import Draws
from factory.site.model import OUTPUTS, evaluate
from factory.site.quantities import Z_95, Quantity, quantiles
from factory.site.site_file import Site
from factory.site.workload import Workload

DISCLAIMER = "Projection, not measurement"
QUANTILES = (0.05, 0.5, 0.95)
TORNADO = ("breakeven_usd_per_policy", "payback_years", "good_policies_per_day")
"""Outputs for which the influence of every input is shown."""
_UNTRUSTED = (Tier.ESTIMATED, Tier.REPLAYED)


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Choices of the user for a projection."""

    gang: int = 1
    """Machines that stop together when one fails."""
    policy_usd: float | None = None
    """Price of a good policy [USD]; None for the rent of the same compute in a public cloud."""
    num_draws: int = 20_000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Effect of one input on an output."""

    input: str
    at_low: float
    """Output with the input at its 5 % quantile and all others at their medians."""
    at_high: float
    rank_correlation: float
    """Spearman's correlation of input and output over all draws."""

    @property
    def swing(self) -> float:
        """Ratio of the larger to the smaller output; infinite if one of them is, or the smaller is zero."""
        smaller = min(self.at_low, self.at_high)
        larger = max(self.at_low, self.at_high)
        # Such as a payback that never comes.
        if not np.isfinite(larger) or smaller == 0.0:
            return np.inf
        return larger / smaller


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Everything that is known about a site full of measured lines."""

    site: Site
    workload: Workload
    assumptions: Assumptions
    quantities: tuple[Quantity, ...]
    inputs: Draws
    outputs: Draws
    tornado: dict[str, list[Influence]]

    @property
    def extrapolation_factor(self) -> float:
        """Power of the site relative to the power that was measured."""
        return self.site.facility_w / self.workload.machine.power_w.value

    def quantiles(self, name: str) -> list[float]:
        """Return the 5, 50 and 95 % quantiles of an output; infinite where that many draws are."""
        return quantiles_of(self.outputs[name])

    @property
    def pays_back(self) -> float:
        """Share of the draws that pay back within the life of the machines."""
        return float((self.outputs["payback_years"] <= self.inputs["life_years"]).mean())

    def middle_inputs(self) -> dict[str, float]:
        """Return the median of every input."""
        return {quantity.name: quantiles(quantity)[1] for quantity in self.quantities}

    def at_middle(self, **changes: float) -> dict[str, float]:
        """Return the outputs with every input at its median but for some, `gang` among them."""
        gang = int(changes.pop("gang", self.assumptions.gang))
        found = evaluate(
            self.middle_inputs() | changes,
            self.workload,
            facility_w=self.site.facility_w,
            gang=gang,
            policy_usd=self.assumptions.policy_usd,
        )
        return {name: float(value) for name, value in found.items()}

    def as_plain(self) -> dict[str, Any]:
        """Return plain containers for JSON; infinities are for the writer to replace."""
        return {
            "notice": f"{DISCLAIMER}.",
            "site": {
                "name": self.site.name,
                "intent": self.site.intent,
                "facility_w": self.site.facility_w,
            },
            "workload": _plain_workload(self.workload),
            "inputs": {
                quantity.name: {
                    "range": list(quantiles(quantity)),
                    "unit": quantity.unit,
                    "source": quantity.source,
                }
                for quantity in self.quantities
            },
            "quantiles": {output.name: self.quantiles(output.name) for output in OUTPUTS},
            "pays_back_within_life": self.pays_back,
            "tornado": {
                name: [
                    {
                        "input": found.input,
                        "at_q05": found.at_low,
                        "at_q95": found.at_high,
                        "rank_correlation": found.rank_correlation,
                    }
                    for found in influences
                ]
                for name, influences in self.tornado.items()
            },
            "extrapolation_factor": self.extrapolation_factor,
            "tier": str(self.workload.tier),
            "seed": self.assumptions.seed,
            "num_draws": self.assumptions.num_draws,
            "gang": self.assumptions.gang,
        }


def _plain_workload(workload: Workload) -> dict[str, Any]:
    power_w = workload.machine.power_w
    per_token = workload.joules_per_token
    return {
        "from": visible(workload.origin),
        "task": workload.task,
        "device": workload.device,
        "boundary": workload.boundary,
        "gate": workload.gate,
        "runs": len(workload.outcomes),
        "good_runs": workload.num_good,
        "power_w": [power_w.lo, power_w.value, power_w.hi],
        "joules_per_token": [per_token.lo, per_token.value, per_token.hi],
        "tokens_per_s": workload.machine.tokens_per_s,
        "cpu_s_per_token": workload.machine.cpu_s_per_token,
    }


def quantiles_of(values: NDArray[np.float64]) -> list[float]:
    """Return the 5, 50 and 95 % quantiles of draws, which may be infinite."""
    # Interpolation between a finite and an infinite draw would be NaN.
    found = np.quantile(values, QUANTILES, method="inverted_cdf")
    return [float(value) for value in found]


def check_tier(workload: Workload, *, allow_estimated: bool) -> None:
    """Refuse joules that no counter has counted, unless the user accepts their interval.

    Raises:
        ValueError: The tier is not good enough; the message gives the remedy.
    """
    if workload.tier is Tier.NONE:
        raise ValueError("from=: the joules are of an unknown tier or none; give runs that were metered")
    if workload.tier in _UNTRUSTED and not allow_estimated:
        bounds = workload.joules_per_token
        raise ValueError(
            f"allow_estimated=false: the joules are {workload.tier}, between {bounds.lo / bounds.value:.2g}"
            f" and {bounds.hi / bounds.value:.2g} times their value; meter the runs with counters, or give"
            " allow_estimated=true, and the interval enters the projection"
        )


def project(site: Site, workload: Workload, assumptions: Assumptions) -> Projection:
    """Draw all inputs, evaluate the site for each draw, and vary the inputs one at a time."""
    # Inputs with a range: those of the site, from its file, and those of the workload, as measured.
    measured = workload.quantities()
    quantities: tuple[Quantity, ...] = (*site.inputs.values(), *measured)
    z = draws.deviates(site, measured, num_draws=assumptions.num_draws, seed=assumptions.seed)
    inputs = draws.at(quantities, z)
    outputs = _evaluate(inputs, site, workload, assumptions)
    # Every output gets a value for each draw, also one that no drawn input moves.
    size = np.shape(next(iter(inputs.values())))
    outputs = {name: np.broadcast_to(values, size) for name, values in outputs.items()}
    # One evaluation for all bars of the tornado: two rows for each input.
    varied = _evaluate(_one_at_a_time(quantities), site, workload, assumptions)
    tornado = {name: _tornado(varied[name], inputs, outputs[name]) for name in TORNADO}
    return Projection(
        site=site,
        workload=workload,
        assumptions=assumptions,
        quantities=quantities,
        inputs=inputs,
        outputs=outputs,
        tornado=tornado,
    )


def _evaluate(inputs: Draws, site: Site, workload: Workload, assumptions: Assumptions) -> Draws:
    found = evaluate(
        inputs,
        workload,
        facility_w=site.facility_w,
        gang=assumptions.gang,
        policy_usd=assumptions.policy_usd,
    )
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


def _one_at_a_time(quantities: Sequence[Quantity]) -> Draws:
    """Return rows in which one input is low, then high, and all others are at their medians."""
    num_rows = 2 * len(quantities)
    found: Draws = {}
    for place, quantity in enumerate(quantities):
        # A deviate of 0 is the median of any quantity, whatever its distribution.
        z = np.zeros(num_rows)
        z[2 * place] = -Z_95
        z[2 * place + 1] = Z_95
        found[quantity.name] = quantity.at(z)
    return found


def _tornado(varied: NDArray[np.float64], inputs: Draws, output: NDArray[np.float64]) -> list[Influence]:
    """Return the inputs by falling influence on an output; those without any are left out."""
    found = [
        Influence(
            input=name,
            at_low=float(varied[2 * place]),
            at_high=float(varied[2 * place + 1]),
            rank_correlation=draws.rank_correlation(values, output),
        )
        for place, (name, values) in enumerate(inputs.items())
    ]
    # Where swings are infinite or equal, the correlation over all draws decides.
    moving = [influence for influence in found if influence.at_low != influence.at_high]
    return sorted(moving, key=lambda influence: (-influence.swing, -abs(influence.rank_correlation)))
