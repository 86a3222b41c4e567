"""Figures as text: SI prefixes, durations, joules with tier and interval, and a run's headline figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

PREFIXES = {-9: "n", -6: "\u00b5", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def _prefix_exponent(value: float, *, smallest: int) -> int:
    """Return the power of ten, a multiple of three, that leaves 1-3 digits before the point."""
    rounded = abs(float(f"{value:.3g}"))  # 999.9 becomes 1.00 k, not 1000
    if rounded == 0.0:
        return 0
    return min(max(3 * math.floor(math.log10(rounded) / 3), smallest), 12)


def _three_digits(value: float) -> str:
    """Format with three significant digits and never an exponent."""
    rounded = float(f"{value:.3g}")
    if rounded == 0.0:
        return "0"
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def format_si(value: float, unit: str = "") -> str:
    """Format three digits with an SI prefix; a number without unit is only scaled up (`12.6 M`, `0.031`)."""
    if not math.isfinite(value):
        return "-"
    exponent = _prefix_exponent(value, smallest=-9 if unit else 0)
    return f"{_three_digits(value / 10**exponent)} {PREFIXES[exponent]}{unit}".rstrip()


def si_unit(largest: float, unit: str) -> tuple[float, str]:
    """Return the divisor that leaves `largest` 1-3 digits before the point, and the unit that goes with it.

    Symbols take the prefix at once, words with a gap: `(1e-3, "mJ/token")`, `(1e3, "k tokens/s")`.
    """
    exponent = _prefix_exponent(largest, smallest=-9)
    gap = " " if exponent and len(unit.partition("/")[0]) > 1 else ""
    return 10.0**exponent, f"{PREFIXES[exponent]}{gap}{unit}"


def format_number(value: float) -> str:
    """Format a return or a loss: four digits as they are, SI prefixes from ten thousand on."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.4g}" if abs(value) < 9999.5 else format_si(value)


def format_duration(seconds: float) -> str:
    """Format seconds with the two largest units: `8.2 s`, `3 min 05 s`, `2 h 07 min`, `1 d 03 h`."""
    if not math.isfinite(seconds):
        return "-"
    if round(seconds, 1) < 60.0:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_percent(share: float) -> str:
    """Format a share of one as a percentage."""
    return f"{100.0 * share:.3g} %" if math.isfinite(share) else "-"


def energy_text(value: float, metrics: Mapping[str, float], *, tier: str, unit: str = "J") -> tuple[str, str]:
    """Return an energy figure, and its tier and interval: `3.10 mJ`, `estimated, 1.20-8.70`.

    Both have one SI prefix. The relative interval is the total's, `energy/total_j_{lo,hi} / energy/total_j`.

    Args:
        value: The figure [unit].
        metrics: Metrics that hold the total and its bounds [J].
        tier: Energy tier of the run, empty if unknown.
        unit: Unit of the figure, `J` or `J/token`.
    """
    total_j = metrics.get("energy/total_j", math.nan)
    bounds = [metrics.get(f"energy/total_j_{side}", math.nan) for side in ("lo", "hi")]
    interval = "interval unknown"
    if all(map(math.isfinite, (value, total_j, *bounds))) and total_j > 0.0:
        scale = value / total_j / 10 ** _prefix_exponent(value, smallest=-9)
        interval = "-".join(_three_digits(bound * scale) for bound in bounds)
    return format_si(value, unit), f"{tier or 'tier unknown'}, {interval}"


def joules_per_token_text(metrics: Mapping[str, float], tier: str) -> str:
    """Return e.g. `3.10 mJ/token (estimated, 1.20-8.70)`: never a joule without its tier and interval."""
    if not math.isfinite(metrics.get("factory/joules_per_token", math.nan)):
        return "not metered"
    value, source = energy_text(metrics["factory/joules_per_token"], metrics, tier=tier, unit="J/token")
    return f"{value} ({source})"


def phase_shares(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of wall time of sim, infer, learn and everything else; empty if not timed."""
    wall_s = metrics.get("time/wall_s", 0.0)
    if not wall_s > 0.0:
        return {}
    shares = {phase: metrics.get(f"time/{phase}_s", 0.0) / wall_s for phase in ("sim", "infer", "learn")}
    return {**shares, "other": max(0.0, 1.0 - sum(shares.values()))}


class Headline(NamedTuple):
    """One figure that sums up a run, as texts."""

    label: str
    value: str
    note: str = ""


def _skill(metrics: Mapping[str, float]) -> list[Headline]:
    """Return what the policy can do, from the evaluation if there was one, else from training."""
    evaluated = "eval/return_mean" in metrics
    side, note = ("eval", "evaluation") if evaluated else ("train", "training, no evaluation")
    spread = f", std {format_number(metrics['eval/return_std'])}" if "eval/return_std" in metrics else ""
    rows = (
        ("Tracking error", "eval/velocity_rms_m_per_s", format_number, " m/s", "RMS of velocity, evaluation"),
        ("Return", f"{side}/return_mean", format_number, "", note + spread),
        ("Success rate", f"{side}/success_rate", format_percent, "", note),
        ("Fall rate", "eval/fall_rate", format_percent, "", "evaluation"),
    )
    return [
        Headline(label, show(metrics[key]) + unit, remark)
        for label, key, show, unit, remark in rows
        if key in metrics
    ]


def _site(metrics: Mapping[str, float], *, tier: str) -> list[Headline]:
    """Return cost and carbon: joules times assumptions about the site, with the same relative interval."""
    rows = []
    for label, key, unit in (
        ("Electricity", "factory/usd_per_mtoken", "USD"),
        ("Carbon", "factory/gco2e_per_mtoken", "g CO2e"),
    ):
        if key in metrics:
            scale = metrics[key] / metrics["energy/total_j"]
            low, high = (f"{metrics[f'energy/total_j_{side}'] * scale:.2g}" for side in ("lo", "hi"))
            note = f"per million tokens, {tier or 'tier unknown'}, {low} to {high}; assumptions: energy.site"
            rows.append(Headline(label, f"{metrics[key]:.3g} {unit}", note))
    return rows


def headlines(metrics: Mapping[str, float], tags: Mapping[str, str]) -> list[Headline]:
    """Return the figures that sum up a run, the policy's skill first, absent ones left out."""

    def amount(key: str, unit: str) -> str:
        return f"{format_si(metrics[key])} {unit}" if key in metrics else ""

    rows = _skill(metrics)
    if "factory/tokens_per_s" in metrics:
        env_steps = amount("factory/env_steps_per_s", "env steps/s")
        rows.append(Headline("Throughput", amount("factory/tokens_per_s", "tokens/s"), env_steps))
    if "factory/joules_per_token" in metrics:
        joules, tier = metrics["factory/joules_per_token"], tags.get("energy.tier", "")
        rows.append(Headline("Energy per token", *energy_text(joules, metrics, tier=tier, unit="J/token")))
        rows += _site(metrics, tier=tier)
    wall_s = metrics.get("time/wall_s", 0.0)
    if wall_s > 0.0:
        rows.append(Headline("Wall time", format_duration(wall_s), amount("factory/env_steps", "env steps")))
        if "time/physics_s" in metrics:
            share = format_percent(metrics["time/physics_s"] / wall_s)
            rows.append(Headline("Physics share", share, "of the wall time"))
    return rows
