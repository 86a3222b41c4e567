"""Traces: what a floor and its operator showed, tick by tick, as plain values that are one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from factory.limits import stored_limit
from factory.operator.operator import Operator
from factory.operator.view import LineView, View

Tick = dict[str, Any]


def tick(view: View, operator: Operator, *, tokens: Mapping[int, float], joules: Mapping[int, float]) -> Tick:
    """Return what a trial is judged by.

    Args:
        view: the floor as the operator saw it.
        operator: after it has acted.
        tokens: control tokens of each line that count.
        joules: energy of each line [J].
    """
    return {
        "t": view.now_s,
        "open": [[finding.id, finding.severity.value] for finding in operator.findings],
        "decisions": [
            [one.id, one.candidate.verb.value, one.candidate.line, one.status.value, one.finding]
            for one in operator.decisions
        ],
        "states": {line.id: line.state.value for line in view.lines},
        "moved": {line.id: line.rows[-1].seen_s for line in view.lines if line.rows},
        "tokens": dict(tokens),
        "joules": dict(joules),
        "power_w": _newest(view.meter.samples) or 0.0,
        "limit_w": stored_limit(view.meter.limit_w),
        "cost": operator.cost,
    }


def recorded(view: View, *, newer_than_s: float, power_w: Mapping[int, float]) -> Tick:
    """Return the view itself, from which a model floor can show it again.

    Args:
        view: the floor as the operator saw it.
        newer_than_s: time of the last tick; only iterations that were seen since are kept.
        power_w: power that each line is charged with [W].
    """
    meter = view.meter
    return {
        "host": {name: _storable(value) for name, value in asdict(view.host).items()},
        "meter": {
            "sample": meter.samples[-1:],
            "tier_rank": meter.tier_rank,
            "best_tier_rank": meter.best_tier_rank,
            "sample_age_s": meter.sample_age_s,
        },
        "floor_gap_s": view.floor_gap_s,
        "floor_age_s": view.floor_age_s,
        "num_duplicate_targets": view.num_duplicate_targets,
        "lines": {line.id: _line(line, newer_than_s, power_w.get(line.id, 0.0)) for line in view.lines},
    }


def _line(line: LineView, newer_than_s: float, power_w: float) -> Tick:
    new = [row for row in line.rows if row.seen_s > newer_than_s]
    plain = {
        name: getattr(line, name)
        for name in ("attempts", "failures", "retry_in_s", "steps", "is_stopped", "cores_busy", "cores")
    }
    return plain | {
        "state": line.state.value,
        "exit_class": line.exit_class and line.exit_class.value,
        "cpus": list(line.cpus),
        "predicted_w": line.power_w,
        "tokens_per_s": line.tokens_per_s,
        "power_w": power_w,
        "rows": [asdict(row) for row in new],
        "memory": _newest(line.memory),
        "outbox": _newest(line.outbox),
        "missing_bytes": line.checkpoint.missing_bytes,
        "is_being_written": line.checkpoint.is_being_written,
        "checkpoint_steps": line.checkpoint.steps,
        "checkpoint_age_s": stored_limit(line.checkpoint.age_s),
        "checkpoint_interval_s": stored_limit(line.checkpoint.interval_s),
    }


def _storable(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, float):
        return stored_limit(value)
    return value


def _newest(values: Sequence[tuple[float, ...]]) -> float | None:
    """Return the newest value of pairs of time and value; None if there is none."""
    if not values:
        return None
    return values[-1][1]


def read(path: Path) -> list[Tick]:
    """Return the ticks of a file; the last line may be half written."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return []
    return list(_parsed(lines))


def _parsed(lines: Iterable[bytes]) -> Iterable[Tick]:
    for line in lines:
        found = json.loads(line)
        # Numbers of lines are strings in JSON.
        for key in ("states", "moved", "tokens", "joules"):
            found[key] = {int(number): value for number, value in found[key].items()}
        yield found
