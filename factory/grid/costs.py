"""Money and carbon of every line, at the price and the intensity of the hour in which it ran.

Energy is what the books charge a line with, its share of the idle power included; the PUE of the site enters
here, once. Energy for which no signal was known is counted as such and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from factory.energy import kpi
from factory.floor.keys import Key
from factory.floor.lines import Line, LineState
from factory.floor.store import Store
from factory.grid.signals import Kind, Reading

KINDS = tuple(Kind)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Costs of a line over all its attempts, as far as the grid was watched."""

    joules: float = 0.0
    """Energy of the line that these costs are about [J]."""
    seen_j: float = 0.0
    """Energy on the line's account when it was last looked at [J]."""
    usd: float = 0.0
    gco2e_average: float = 0.0
    """Carbon by the average intensity [g]."""
    gco2e_marginal: float = 0.0
    """Carbon by the marginal intensity [g]; another view of the same energy, not to be added."""
    unpriced_j: float = 0.0
    """Part of `joules` for which no price was known [J]."""
    uncounted_j: float = 0.0
    """Part of `joules` for which no average intensity was known [J]."""
    stale_j: float = 0.0
    """Part of `joules` for which the price or the intensity was the last one known [J]."""

    def charged(self, account_j: float, now: Mapping[Kind, Reading | None], *, pue: float) -> Cost:
        """Return the costs with the energy since the last look.

        Args:
            account_j: energy on the line's account now [J].
            now: signals at this moment.
            pue: facility energy over IT energy.
        """
        # Only what came since the last look: every joule gets the price of the moment in which it was used.
        added_j = max(0.0, account_j - self.seen_j)
        price = now.get(Kind.PRICE)
        average = now.get(Kind.CARBON_AVERAGE)
        marginal = now.get(Kind.CARBON_MARGINAL)
        # Energy without a signal is added up apart: it costs nothing here, which must not look like free.
        unpriced_j = self.unpriced_j
        if price is None:
            unpriced_j += added_j
        uncounted_j = self.uncounted_j
        if average is None:
            uncounted_j += added_j
        stale_j = self.stale_j
        if _is_stale(price) or _is_stale(average):
            stale_j += added_j
        return replace(
            self,
            joules=self.joules + added_j,
            seen_j=account_j,
            usd=self.usd + _usd(added_j, price, pue),
            gco2e_average=self.gco2e_average + _gco2e(added_j, average, pue),
            gco2e_marginal=self.gco2e_marginal + _gco2e(added_j, marginal, pue),
            unpriced_j=unpriced_j,
            uncounted_j=uncounted_j,
            stale_j=stale_j,
        )


COST = Key("grid_cost/{}", Cost)
"""Costs of a line."""


def _is_stale(reading: Reading | None) -> bool:
    return reading is not None and reading.stale_s > 0.0


def _usd(joules: float, price: Reading | None, pue: float) -> float:
    if price is None:
        return 0.0
    return kpi.usd_electricity(joules, pue=pue, price_usd_per_kwh=price.value)


def _gco2e(joules: float, intensity: Reading | None, pue: float) -> float:
    if intensity is None:
        return 0.0
    return kpi.gco2e(joules, pue=pue, carbon_g_per_kwh=intensity.value)


def read(store: Store, line: int) -> Cost | None:
    """Return the costs of a line; None if the grid was never watched while it ran."""
    return store.get(COST.of(line))


def charge(store: Store, line: Line, now: Mapping[Kind, Reading | None], *, pue: float) -> None:
    """Charge a line with the energy since the last look."""
    before = read(store, line.id)
    if before is None:
        # Energy from before the first look belongs to hours that nobody watched, unless the line is new.
        seen_j = line.joules
        if line.state in (LineState.STARTING, LineState.QUEUED):
            seen_j = 0.0
        before = Cost(seen_j=seen_j)
    # A write for every line in every tick would fill the disk with numbers that have not changed.
    after = before.charged(line.joules, now, pue=pue)
    if after != before:
        store.put(COST.of(line.id), asdict(after))


def metrics(cost: Cost) -> dict[str, float]:
    """Return the costs under keys of the experiment tracker; those without a signal are left out."""
    found: dict[str, float] = {}
    if cost.joules > cost.unpriced_j:
        found["cost/electricity_usd"] = cost.usd
        found["cost/unpriced_j"] = cost.unpriced_j
    if cost.joules > cost.uncounted_j:
        found["carbon/average_g"] = cost.gco2e_average
        found["carbon/uncounted_j"] = cost.uncounted_j
    if cost.gco2e_marginal:
        found["carbon/marginal_g"] = cost.gco2e_marginal
    return found
