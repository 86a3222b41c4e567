"""The run's description in MLflow: its headline numbers as a small Markdown table."""

from __future__ import annotations

from collections.abc import Mapping

# Title, metric key, unit. Joules get their tier and interval beside them.
LINES = (
    ("return, evaluated", "eval/return_mean", ""),
    ("return, training", "train/return_mean", ""),
    ("environment steps", "factory/env_steps", ""),
    ("environment steps per second", "factory/env_steps_per_s", "1/s"),
    ("control tokens", "factory/tokens_total", ""),
    ("control tokens per second", "factory/tokens_per_s", "1/s"),
    ("energy", "energy/total_j", "J"),
    ("energy per control token", "factory/joules_per_token", "J"),
    ("energy to the threshold", "factory/joules_to_threshold", "J"),
    ("wall time", "time/wall_s", "s"),
)


def headline_note(metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Return a table of the run's headline metrics; joules with tier, interval and boundary."""
    rows: list[str] = []
    for title, key, unit in LINES:
        if key not in metrics:
            continue
        remark = ""
        if unit == "J":
            remark = _energy_terms(metrics, tags)
        rows.append(f"| {title} | {metrics[key]:.6g} {unit} | {remark} |")
    if not rows:
        return ""
    # Markdown requires a head; an empty one keeps the table small.
    return "\n".join(["| | | |", "|---|---|---|", *rows])


def _energy_terms(metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Return tier, interval and boundary of the joules.

    Metrics that are proportional to the total energy inherit its relative interval.
    """
    total, low, high = (metrics.get(f"energy/total_j{end}") for end in ("", "_lo", "_hi"))
    terms = [tags.get("energy.tier", "tier unknown"), tags.get("energy.boundary", "boundary unknown")]
    if total and low is not None and high is not None:
        terms.insert(1, f"{100 * (low / total - 1):+.0f} % to {100 * (high / total - 1):+.0f} %")
    return ", ".join(terms)
