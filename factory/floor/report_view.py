"""A shift's report as text."""

from __future__ import annotations

from typing import Any

from factory.floor.sweeps import view
from factory.reporting.formatting import format_duration, format_si


def print_report(found: dict[str, Any]) -> None:
    """Print what `history.shift_report` returned."""
    tier = found["tier"]
    print(f"shift             {format_duration(found['to'] - found['from'])}, {found['attempts']} attempts")
    print(
        f"policies          {found['policies']} finished, {len(found['failed'])} failed,"
        f" {found['cancelled']} cancelled"
    )
    for number, reason in found["failed"].items():
        print(f"  line {number} failed: {reason}")
    print(f"control tokens    {format_si(float(found['tokens']))}")
    print(
        f"energy            {format_si(found['joules'], 'J')} ({tier}),"
        f" {format_si(found['waste_j'], 'J')} of it in work that was lost"
    )
    print(f"CPU time          {format_duration(found['cpu_s'])} (counted)")
    for name, spent_s in found["time_s"].items():
        print(f"  lines were {name:<24} {format_duration(spent_s)}")
    budget = found["budget"]
    if budget is None:
        print("budget            none")
    else:
        print(
            f"budget            kept in {100 * budget['compliance']:.0f} % of the windows of 10 s;"
            f" {budget['violation_ws']:.1f} W s above it, at most {budget['max_excess_w']:.1f} W ({tier})"
        )
    for event in found["events"]:
        print(
            f"  event           {event['mean_w']:.1f} W instead of {event['baseline_w']:.1f} W,"
            f" {event['violation_ws']:.1f} W s above the budget; fell by {event['fall_w_per_s']:.2f} W/s,"
            f" rose by {event['rise_w_per_s']:.2f} W/s, peak after it {100 * event['snap_back']:.0f} %"
        )
        print(
            f"                  {format_si(event['tokens_lost'])} tokens fewer than"
            f" {event['baseline']} ({tier})"
        )
    predictions = found["predictions"]
    if predictions is not None:
        print(
            f"predictions       {predictions['number']} scored: mean error {predictions['bias_w']:+.1f} W,"
            f" {100 * predictions['coverage']:.0f} % inside their intervals"
        )
    for sweep in found["sweeps"]:
        print(view.summary(sweep))
