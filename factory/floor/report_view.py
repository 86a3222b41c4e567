"""A shift's report as text."""

from __future__ import annotations

from typing import Any

from factory.floor.sweeps import view
from factory.reporting.formatting import format_duration, format_si
from factory.runtime.stored_files import visible

_MOST_ROWS = 12
_LABEL = 18


def print_report(found: dict[str, Any]) -> None:
    """Print what `history.shift_report` returned."""
    tier = found["tier"]
    print(f"shift             {format_duration(found['to'] - found['from'])}, {found['attempts']} attempts")
    print(
        f"policies          {found['policies']} finished, {len(found['failed'])} failed,"
        f" {found['cancelled']} cancelled"
    )
    for number, reason in found["failed"].items():
        print(visible(f"  line {number} failed: {reason}"))
    print(f"control tokens    {format_si(float(found['tokens']))}")
    print(
        f"energy            {format_si(found['joules'], 'J')} ({tier}),"
        f" {format_si(found['waste_j'], 'J')} of it spent on lost work"
    )
    print(f"CPU time          {format_duration(found['cpu_s'])} (counted)")
    _print_money(found["money"], tier)
    _print_rows("ran", [_ran_text(row) for row in found["ran"]], question="ran")
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
            f" rose by {event['rise_w_per_s']:.2f} W/s, peak after it {100 * event['snap_back']:.0f} %,"
            f" {format_si(event['tokens_lost'])} tokens fewer ({tier})"
        )
        print(f"                  compared with {event['baseline']}")
    error = found["forecast"]
    if error is not None:
        print(
            f"forecasts         of {error['number']} minutes without an event were wrong by"
            f" {error['mean_absolute_w']:.2f} W on average, bias {error['bias_w']:+.2f} W"
        )
    predictions = found["predictions"]
    if predictions is not None:
        print(
            f"predictions       {predictions['number']} scored: mean error {predictions['bias_w']:+.1f} W,"
            f" {100 * predictions['coverage']:.0f} % inside their intervals"
        )
    for sweep in found["sweeps"]:
        print(view.summary(sweep))
    _print_operator(found["operator"], tier)


def _print_money(money: dict[str, float] | None, tier: str) -> None:
    """Print money and carbon of the node, at the values of the hours."""
    if money is None:
        return
    known: list[str] = []
    for amount, unit, missing in (("usd", "USD", "unpriced_joules"), ("gco2e", "gCO2e", "uncounted_joules")):
        # A sum is worth printing as soon as some of the energy has a value.
        if money[missing] < money["joules"]:
            known.append(f"{money[amount]:.4g} {unit} (no value for {format_si(money[missing], 'J')})")
    print(f"electricity       {', '.join(known)} for the node, PUE included ({tier})")


def _ran_text(row: dict[str, Any]) -> str:
    return (
        f"line {row['id']} {row['name']}: {row['state']}, {row['minutes_running']:.1f} min,"
        f" {row['percent_done']:.0f} % done, {format_si(float(row['tokens']))} tokens and"
        f" {format_si(row['joules'], 'J')} so far"
    )


def _print_operator(found: dict[str, Any], tier: str) -> None:
    """Print faults, actions with their results, open suggestions, and the operator's own cost."""
    broke = [
        f"{row['time_utc']} line {row['line'] or '-'}: {row['event']} ({row['cause']})"
        for row in found["broke"]
    ]
    done = [
        f"{row['time_utc']} {row['verb']} for {row['finding']}: {row['status']}, {row['note']}"
        for row in found["done"]
    ]
    suggests = [f"{row['verb']} for {row['finding']}: approve {row['id']}" for row in found["suggests"]]
    _print_rows("broke", broke, question="broke")
    _print_rows("operator did", done, question="done")
    _print_rows("operator suggests", suggests, question="suggested")
    cost = found["cost"]
    if cost is None:
        print("operator          none has watched")
        return
    joules = ""
    if cost["joules"] is not None:
        joules = f", {format_si(cost['joules'], 'J')} of the node's energy ({tier})"
    print(
        f"operator took     {cost['cpu_s']:.2f} s of CPU time in {cost['ticks']} ticks{joules},"
        f" {cost['percent_of_a_core'] or 0.0:.2f} % of a core, at most {cost['ms_longest_tick']:.0f} ms each"
    )


def _print_rows(label: str, texts: list[str], *, question: str) -> None:
    """Print rows below a label, not too many of them."""
    if not texts:
        print(f"{label:<{_LABEL}}nothing")
    for place, text in enumerate(texts[:_MOST_ROWS]):
        print(f"{label * (place == 0):<{_LABEL}}{text}")
    if len(texts) > _MOST_ROWS:
        print(f"{'':<{_LABEL}}and {len(texts) - _MOST_ROWS} more; `ask {question}` lists them")
