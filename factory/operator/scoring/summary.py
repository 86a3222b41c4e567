"""Summaries of trials: one row for each case, decider and kind, and the totals against which bars stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from statistics import median
from typing import Any

from factory.intervals import poisson_rate
from factory.operator.scoring.cases import QUIET
from factory.operator.scoring.config import ORACLE
from factory.operator.scoring.measure import Outcome
from factory.operator.scoring.replay import line_days

_HOUR_S = 3600.0


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each case, decider and kind, in the order in which they first came."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for one in outcomes:
        if one.case != QUIET.name:
            groups.setdefault((one.case, one.decider, one.kind), []).append(one)
    found = [_row(group) for group in groups.values()]
    oracle = {(row["case"], row["kind"]): row["lost_tokens"] for row in found if row["decider"] == ORACLE}
    for row in found:
        known = oracle.get((row["case"], row["kind"]))
        row["lost_against_oracle"] = None
        if known is not None:
            row["lost_against_oracle"] = row["lost_tokens"] - known
    return found


def _row(group: Sequence[Outcome]) -> dict[str, Any]:
    watched_s = fsum(one.watched_s for one in group)
    latencies_s = sorted(one.latency_s for one in group if one.latency_s is not None)
    return {
        "case": group[0].case,
        "decider": group[0].decider,
        "kind": group[0].kind,
        "trials": len(group),
        "found": sum(one.is_found for one in group),
        "latency_s": _median(latencies_s),
        "latency_p95_s": _p95(latencies_s),
        "repaired": sum(one.repair_s is not None for one in group),
        "repair_s": _median([one.repair_s for one in group if one.repair_s is not None]),
        "other_alarms": sum(one.alarms for one in group),
        "actions": sum(one.actions for one in group),
        "actions_per_hour": sum(one.actions for one in group) * _HOUR_S / max(watched_s, 1e-9),
        "wrong": sum(one.wrong for one in group),
        "losses": sum(one.losses for one in group),
        "lost_tokens": fsum(one.lost_tokens for one in group) / len(group),
        "usual_tokens": fsum(one.usual_tokens for one in group) / len(group),
        "over_budget_ws": fsum(one.over_budget_ws for one in group) / len(group),
        "wasted_j": fsum(one.wasted_j for one in group) / len(group),
    }


def totals(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the totals of each decider and kind over all cases."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.decider, one.kind), []).append(one)
    # Compared trial by trial: the same case, seed and kind meets the same fault.
    acts = {(one.case, one.seed, one.kind): one.acts for one in outcomes if one.decider == "rule"}
    return [_total(group, acts) for group in groups.values()]


def _total(group: Sequence[Outcome], acts: Mapping[tuple[str, int, str], list[str]]) -> dict[str, Any]:
    """Return the totals of some trials; `acts` has the rule's actions."""
    quiet = [one for one in group if one.case == QUIET.name]
    faults = [one for one in group if one.case != QUIET.name]
    # The cost counts where there are ten lines, if there was such an hour.
    costly = quiet or faults
    rate = None
    if quiet:
        found = poisson_rate(sum(one.alarms for one in quiet), fsum(line_days(one) for one in quiet))
        rate = {"per_line_day": found.value, "lo": found.lo, "hi": found.hi}
    return {
        "decider": group[0].decider,
        "kind": group[0].kind,
        "trials": len(faults),
        "recall": sum(one.is_found for one in faults) / max(1, len(faults)),
        "as_rule": sum(acts.get((one.case, one.seed, one.kind)) == one.acts for one in faults),
        "wrong": sum(one.wrong for one in faults),
        "losses": sum(one.losses for one in faults),
        "lost_tokens": fsum(one.lost_tokens for one in faults),
        "wasted_j": fsum(one.wasted_j for one in faults),
        "over_budget_ws": fsum(one.over_budget_ws for one in faults),
        "line_days": fsum(line_days(one) for one in quiet),
        "false_alarms": rate,
        "tick_cpu_s": fsum(one.cpu_s for one in costly) / max(1, sum(one.ticks for one in costly)),
        "longest_tick_s": max((one.longest_tick_s for one in group), default=0.0),
    }


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    if not known:
        return None
    return median(known)


def _p95(ordered: Sequence[float]) -> float | None:
    """Return the value that 95 % of some ordered values do not exceed; None of none."""
    if not ordered:
        return None
    return ordered[int(0.95 * (len(ordered) - 1))]
