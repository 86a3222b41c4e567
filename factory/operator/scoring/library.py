"""Recordings of live trials, cut into healthy ticks and faults, from which a model floor is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from factory.floor.lines import ExitClass, LineState
from factory.limits import limit_of
from factory.operator.pressure import Pressure
from factory.operator.scoring import floor_process, trace
from factory.operator.scoring.cases import BY_NAME, QUIET, Case
from factory.operator.scoring.live import INJECTED
from factory.operator.view import CheckpointView, HostView, Row

_LEAST_TICKS = 10
"""Shortest healthy stretch that is used."""
_LEAST_SHARE = 0.25
"""The same, as a share of the longest stretch."""
_SETTLING_TICKS = 5
"""Ticks after the first iteration in which caches fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTick:
    """A line in a tick; counts are what was added since the tick before."""

    state: LineState
    exit_class: ExitClass | None
    attempts: int
    failures: int
    retry_in_s: float
    is_stopped: bool
    cores_busy: float | None
    cores: float
    cpus: tuple[int, ...]
    predicted_w: float
    tokens_per_s: float
    power_w: float
    """Power that it was charged with."""
    rows: tuple[Row, ...]
    """New iterations; their steps and bad values are counted from the iteration before."""
    tokens: float
    memory: float | None
    outbox: float | None
    unsaved_steps: int
    """Steps since the newest checkpoint."""
    checkpoint: CheckpointView


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorTick:
    """A floor in a tick."""

    elapsed_s: float
    host: HostView
    power_w: float
    limit_w: float
    tier_rank: int
    best_tier_rank: int
    sample_age_s: float
    floor_gap_s: float
    floor_age_s: float
    num_duplicate_targets: int
    lines: dict[int, LineTick]


@dataclass(frozen=True, kw_only=True)
class Library:
    """Ticks of real floors."""

    healthy: dict[tuple[int, float], list[list[FloorTick]]] = field(default_factory=dict)
    """Stretches before any injection, by number of lines and CPUs of each."""
    faults: dict[str, list[list[FloorTick]]] = field(default_factory=dict)
    """Ticks from the injection on, while nobody acted, by case."""
    start_s: float = 8.0
    """Time from the start of an attempt to its first iteration."""

    def stretches(self, case: Case) -> list[list[FloorTick]]:
        """Return the healthy stretches of floors like that of a case.

        Raises:
            ValueError: there are none.
        """
        found = self.healthy.get((case.num_lines, case.cores))
        if not found:
            raise ValueError("score: no live trial has been recorded here; run with live=1 first")
        # Blocks of many short recordings would jump between the paces of their processes.
        longest = max(map(len, found))
        return [stretch for stretch in found if len(stretch) >= _LEAST_SHARE * longest]


def read(folder: Path) -> Library:
    """Return the recordings of live trials, each in a folder of its own named by its case."""
    healthy: dict[tuple[int, float], list[list[FloorTick]]] = {}
    faults: dict[str, list[list[FloorTick]]] = {}
    starts_s: list[float] = []
    known = BY_NAME | {QUIET.name: QUIET}
    for file in sorted(folder.glob(f"*/{floor_process.TRACE}")):
        name, _, rest = file.parent.name.partition("-")
        case = known.get(name)
        if case is None or not (file.parent / INJECTED).exists():
            continue
        injected_s = float((file.parent / INJECTED).read_text())
        plain = trace.read(file)
        ticks = list(_ticks(plain))
        # Before the injection every trial is healthy; after it only those count in which nobody acted.
        before = [tick for tick, one in zip(ticks, plain, strict=True) if one["t"] < injected_s]
        healthy.setdefault((case.num_lines, case.cores), []).extend(_healthy(before))
        starts_s += _starts_s(ticks)
        if rest.startswith("none-") and len(ticks) > len(before):
            faults.setdefault(case.name, []).append(ticks[len(before) :])
    if not starts_s:
        return Library(healthy=healthy, faults=faults)
    return Library(healthy=healthy, faults=faults, start_s=median(starts_s))


def _healthy(ticks: list[FloorTick]) -> Iterator[list[FloorTick]]:
    """Yield the stretches in which all lines ran."""
    for is_usual, group in groupby(ticks, key=_all_run):
        stretch = list(group)[_SETTLING_TICKS:]
        if is_usual and len(stretch) >= _LEAST_TICKS:
            yield stretch


def _all_run(tick: FloorTick) -> bool:
    return bool(tick.lines) and all(
        line.state is LineState.RUNNING and line.cores_busy is not None for line in tick.lines.values()
    )


def _starts_s(ticks: list[FloorTick]) -> Iterator[float]:
    """Yield the time that each start of the first line took."""
    spent_s = 0.0
    for tick in ticks:
        line = tick.lines.get(1)
        if line is not None and line.state is LineState.STARTING:
            spent_s += tick.elapsed_s
        elif spent_s > 0.0:
            yield spent_s
            spent_s = 0.0


def _ticks(plain: list[trace.Tick]) -> Iterator[FloorTick]:
    """Yield ticks with what was added in each."""
    before_s = 0.0
    if plain:
        before_s = plain[0]["t"]
    newest: dict[str, dict[str, Any]] = {}
    attempts: dict[str, int] = {}
    for one in plain:
        lines: dict[int, LineTick] = {}
        for number, line in one["lines"].items():
            if number in newest and line["attempts"] == attempts[number]:
                # A floor that was started again sees old iterations once more.
                line["rows"] = [row for row in line["rows"] if row["steps"] > newest[number]["steps"]]
            lines[int(number)] = _line(line, newest.get(number))
            attempts[number] = line["attempts"]
            if line["rows"]:
                newest[number] = line["rows"][-1]
        sample = (one["meter"]["sample"] or [[0.0, 0.0, None]])[-1]
        host: dict[str, Any] = {name: limit_of(value) for name, value in one["host"].items()}
        host["cpus_busy"] = tuple(host["cpus_busy"])
        host["memory_pressure"] = Pressure(**host["memory_pressure"])
        yield FloorTick(
            # Rates are divided by it, and the first tick has none before it.
            elapsed_s=max(1e-3, one["t"] - before_s),
            host=HostView(**host),
            power_w=sample[1],
            limit_w=limit_of(one["limit_w"]),
            lines=lines,
            **{name: one["meter"][name] for name in ("tier_rank", "best_tier_rank", "sample_age_s")},
            **{name: one[name] for name in ("floor_gap_s", "floor_age_s", "num_duplicate_targets")},
        )
        before_s = one["t"]


def _line(plain: dict[str, Any], newest: dict[str, Any] | None) -> LineTick:
    rows: list[Row] = []
    tokens = 0.0
    for row in plain["rows"]:
        if newest is not None:
            steps = row["steps"] - newest["steps"]
            num_bad = max(0.0, row["num_bad"] - newest["num_bad"])
            # Blocks of a model floor come from different times of a training: returns would jump.
            without_returns = {"steps": steps, "num_bad": num_bad, "return_mean": None}
            rows.append(Row(**row | without_returns))
            # A control token is a step of one robot; steps that were lost take theirs away.
            tokens += steps
        newest = row
    same = ("attempts", "failures", "retry_in_s", "is_stopped", "cores_busy", "cores", "predicted_w")
    more = ("tokens_per_s", "power_w", "memory", "outbox")
    exit_class = None
    if plain["exit_class"]:
        exit_class = ExitClass(plain["exit_class"])
    return LineTick(
        state=LineState(plain["state"]),
        exit_class=exit_class,
        cpus=tuple(plain["cpus"]),
        rows=tuple(rows),
        tokens=tokens,
        unsaved_steps=max(0, plain["steps"] - plain["checkpoint_steps"]),
        checkpoint=CheckpointView(
            age_s=limit_of(plain["checkpoint_age_s"]),
            interval_s=limit_of(plain["checkpoint_interval_s"]),
            is_whole=plain["missing_bytes"] == 0,
            missing_bytes=plain["missing_bytes"],
            is_being_written=plain["is_being_written"],
        ),
        **{name: plain[name] for name in (*same, *more)},
    )
