"""Metrics as text: SI prefixes, durations, percentages, joules with tier and interval."""

from __future__ import annotations

import math
from collections.abc import Mapping

from factory.metric_keys import Metric

PREFIXES = {-9: "n", -6: "\u00b5", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
# Shown for NaN, infinity and missing values.
UNKNOWN = "-"
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400


def _prefix_exponent(value: float, *, smallest: int) -> int:
    """Return the power of ten, a multiple of three, that leaves 1-3 digits before the point."""
    # Round first, so that 999.9 becomes 1.00 k and not 1000.
    rounded = abs(float(f"{value:.3g}"))
    if rounded == 0.0:
        return 0
    exponent = 3 * math.floor(math.log10(rounded) / 3)
    return min(max(exponent, smallest), 12)


def format_plain(value: float) -> str:
    """Format with three significant digits and never an exponent."""
    if not math.isfinite(value):
        return UNKNOWN
    rounded = float(f"{value:.3g}")
    if rounded == 0.0:
        return "0"
    # Three digits: two decimals for 1.23, one for 12.3, none for 123.
    decimals = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, decimals)}f}"


def format_si(value: float, unit: str = "") -> str:
    """Format three digits with an SI prefix; a number without unit is only scaled up (`12.6 M`, `0.031`)."""
    if not math.isfinite(value):
        return UNKNOWN
    # A bare 0.031 is read more easily than 31 m.
    smallest = 0
    if unit:
        smallest = -9
    exponent = _prefix_exponent(value, smallest=smallest)
    return f"{format_plain(value / 10**exponent)} {PREFIXES[exponent]}{unit}".rstrip()


def si_unit(largest: float, unit: str) -> tuple[float, str]:
    """Return the divisor that leaves `largest` 1-3 digits before the point, and the unit that goes with it.

    Symbols take the prefix at once, words with a gap: `(1e-3, "mJ/token")`, `(1e3, "k tokens/s")`.
    """
    exponent = _prefix_exponent(largest, smallest=-9)
    # `J/token` begins with a symbol, `tokens/s` with a word.
    is_word = len(unit.partition("/")[0]) > 1
    gap = ""
    if exponent and is_word:
        gap = " "
    return 10.0**exponent, f"{PREFIXES[exponent]}{gap}{unit}"


def format_number(value: float) -> str:
    """Format a return or a loss: four digits as they are, SI prefixes from ten thousand on."""
    if not math.isfinite(value):
        return UNKNOWN
    if abs(value) < 9999.5:
        return f"{value:.4g}"
    return format_si(value)


def format_duration(seconds: float) -> str:
    """Format seconds with the two largest units: `8.2 s`, `3 min 05 s`, `2 h 07 min`, `1 d 03 h`."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if round(seconds, 1) < _MINUTE_S:
        return f"{max(seconds, 0.0):.1f} s"
    # Rounded before it is split, so that no 60 is left in the smaller unit.
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02d} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S:02d} h"


def format_percent(share: float) -> str:
    """Format a share of one as a percentage."""
    if not math.isfinite(share):
        return UNKNOWN
    return f"{100.0 * share:.3g} %"


def format_metric(metric: Metric, value: float) -> str:
    """Format the value of a metric with its unit: `81 %`, `3 min 05 s`, `23.7 k tokens/s`, `0.217 m/s`."""
    if not math.isfinite(value):
        return UNKNOWN
    if metric.unit == "%":
        return format_percent(value)
    if metric.unit == "s":
        return format_duration(value)
    if metric.unit in ("J", "J/token", "s/token"):
        return format_si(value, metric.unit)
    # Money takes no SI prefix.
    if metric.unit in ("USD", "g CO2e"):
        return f"{format_plain(value)} {metric.unit}"
    return f"{_value_text(metric, value)} {metric.unit}".rstrip()


def format_metric_value(metric: Metric, value: float) -> str:
    """Format the value of a metric beside a label that already names its unit: `81 %`, `23.7 k`."""
    if metric.unit in ("%", "s"):
        return format_metric(metric, value)
    return _value_text(metric, value)


def _value_text(metric: Metric, value: float) -> str:
    # Rates and counts are read at a glance, a tracking error in metres a second to the digit.
    if metric.unit in ("steps/s", "tokens/s") or metric.key == "factory/env_steps":
        return format_si(value)
    return format_number(value)


def energy_text(value: float, metrics: Mapping[str, float], *, tier: str, unit: str = "J") -> tuple[str, str]:
    """Return an energy metric, and its tier and interval: `3.10 mJ`, `estimated, 1.20-8.70`.

    Both have one SI prefix. The relative interval is the total's, `energy/total_j_{lo,hi} / energy/total_j`.

    Args:
        value: The metric [unit].
        metrics: Metrics that hold the total and its bounds [J].
        tier: Energy tier of the run, empty if unknown.
        unit: Unit of the metric, `J`, `Wh` or `J/token`.
    """
    total_j = metrics.get("energy/total_j", math.nan)
    bounds = [metrics.get(f"energy/total_j_{side}", math.nan) for side in ("lo", "hi")]
    # A joule without bounds is quoted as such, never bare.
    interval = "interval unknown"
    if all(map(math.isfinite, (value, total_j, *bounds))) and total_j > 0.0:
        # lo = value * total_lo / total, in the prefix of the value.
        scale = value / total_j / 10 ** _prefix_exponent(value, smallest=-9)
        interval = "-".join(format_plain(bound * scale) for bound in bounds)
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
    # Start-up, evaluation and checkpoints; rounding must not make it negative.
    other = max(0.0, 1.0 - sum(shares.values()))
    return {**shares, "other": other}
