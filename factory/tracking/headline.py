"""The run's description in MLflow: its headline numbers as a small Markdown table."""

from __future__ import annotations

from collections.abc import Mapping

from factory.metric_keys import metric

# Joules get their tier and interval beside them.
LINES = (
    "eval/return_mean",
    "train/return_mean",
    "factory/env_steps",
    "factory/env_steps_per_s",
    "factory/tokens_total",
    "factory/tokens_per_s",
    "energy/total_j",
    "factory/joules_per_token",
    "factory/joules_to_threshold",
    "time/wall_s",
)


def headline_note(metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Return a table of the headline metrics that the run has; joules with tier, interval and boundary."""
    rows: list[str] = []
    for key in LINES:
        if key not in metrics:
            continue
        known = metric(key)
        terms = ""
        if known.is_energy:
            terms = _energy_terms(metrics, tags)
        rows.append(f"| {known.label} | {metrics[key]:.6g} {known.unit} | {terms} |")
    if not rows:
        return ""
    return "\n".join(["| | | |", "|---|---|---|", *rows])


def _energy_terms(metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Return tier, interval and boundary of the joules.

    Metrics that are proportional to the total energy inherit its relative interval.
    """
    total, low, high = (metrics.get(f"energy/total_j{end}") for end in ("", "_lo", "_hi"))
    terms = [tags.get("energy.tier", "tier unknown"), tags.get("energy.boundary", "boundary unknown")]
    if "energy.shared" in tags:
        terms.append("shared with others")
    if total and low is not None and high is not None:
        terms.insert(1, f"{100 * (low / total - 1):+.0f} % to {100 * (high / total - 1):+.0f} %")
    return ", ".join(terms)
