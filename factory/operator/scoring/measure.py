"""Measures: from the trace of a trial to what the operator was worth."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from factory.operator.scoring.cases import Case
from factory.operator.scoring.trace import Tick
from factory.operator.words import Fault, Severity, Status, Verb

LIVE = "live"
REPLAYED = "replayed"
_USUAL_S = 20.0
"""Time before the injection that tells the usual speed."""
_DONE = (Status.ACTING.value, Status.EFFECTIVE.value, Status.DONE.value, Status.FAILED.value)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trial: one fault, one decider, one seed."""

    case: str
    decider: str
    seed: int
    kind: str
    """`live` or `replayed`."""
    watched_s: float
    """Time from the injection to the end."""
    is_found: bool
    latency_s: float | None
    """Time from the injection to the finding."""
    repair_s: float | None
    """Time from the injection until the line went on and the finding was closed; None if it never did."""
    alarms: int
    """Warnings about something else."""
    acts: list[str]
    """Actions carried out, in their order; alerts are left out."""
    wrong: int
    """Actions that do not belong to the fault, or to the line."""
    losses: int
    """Actions that lost a finished thing: work that a checkpoint held, or a line that was sound."""
    lost_tokens: float
    """Control tokens that the lines would have made undisturbed, minus those they made."""
    usual_tokens: float
    """Control tokens that the lines would have made undisturbed."""
    over_budget_ws: float
    wasted_j: float
    """Energy beyond that of the tokens that were kept."""
    cpu_s: float
    """CPU time of the operator."""
    ticks: int
    longest_tick_s: float

    @property
    def actions(self) -> int:
        """Return the number of actions carried out."""
        return len(self.acts)

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what makes it different from all other trials."""
        return (self.case, self.decider, self.seed, self.kind)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The floor before the injection."""

    tokens_per_s: float
    """Speed of all lines together."""
    joules_per_token: float


def usual(ticks: Sequence[Tick], injected_s: float) -> Usual:
    """Return speed and price of tokens before the injection."""
    before = [
        tick for tick in ticks if injected_s - _USUAL_S < tick["t"] < injected_s and _tokens(tick) > 0.0
    ]
    if len(before) < 2:
        return Usual(tokens_per_s=0.0, joules_per_token=0.0)
    first = before[0]
    last = before[-1]
    tokens = _tokens(last) - _tokens(first)
    joules = _joules(last) - _joules(first)
    return Usual(
        tokens_per_s=tokens / max(last["t"] - first["t"], 1e-9),
        joules_per_token=joules / max(tokens, 1.0),
    )


def measure(
    case: Case,
    ticks: Sequence[Tick],
    *,
    decider: str,
    seed: int,
    kind: str,
    target: int,
    injected_s: float,
    usual_tokens: float,
    joules_per_token: float,
) -> Outcome:
    """Return what a trace says.

    Args:
        case: class of the fault.
        ticks: trace of the whole trial.
        decider: decider of the operator.
        seed: seed of the trial.
        kind: `live` or `replayed`.
        target: line that the fault befell.
        injected_s: monotonic time of the injection.
        usual_tokens: control tokens that the lines would have made from then on.
        joules_per_token: energy of a token before.
    """
    after = [tick for tick in ticks if tick["t"] >= injected_s]
    found_s = next((tick["t"] for tick in after if _is_found(tick, case, target)), None)
    latency_s = None
    if found_s is not None:
        latency_s = found_s - injected_s
    watched_s = 0.0
    tokens = 0.0
    wasted_j = 0.0
    if after:
        watched_s = after[-1]["t"] - injected_s
        tokens = _useful_tokens(after, case, target)
        # What the tokens would have cost before the fault is not wasted.
        wasted_j = _joules(after[-1]) - _joules(after[0]) - joules_per_token * max(tokens, 0.0)
    acted = _acted_since(ticks, injected_s)
    wrong = [one for one in acted if not _is_right(one, case, target)]
    cost = _cost(ticks)
    return Outcome(
        case=case.name,
        decider=decider,
        seed=seed,
        kind=kind,
        watched_s=watched_s,
        is_found=found_s is not None,
        latency_s=latency_s,
        repair_s=_repair_s(after, case, target, injected_s, found_s),
        alarms=len(_alarms(after, case, target)),
        acts=[f"{verb}:{line or 'floor'}" for _, verb, line in acted],
        wrong=len(wrong),
        losses=sum(one[1] == Verb.CANCEL.value for one in wrong),
        lost_tokens=usual_tokens - tokens,
        usual_tokens=usual_tokens,
        over_budget_ws=over_budget_ws(after),
        wasted_j=max(0.0, wasted_j),
        cpu_s=cost["cpu_s"],
        ticks=int(cost["ticks"]),
        longest_tick_s=cost["longest_tick_s"],
    )


def _useful_tokens(ticks: Sequence[Tick], case: Case, target: int) -> float:
    """Return the control tokens of these ticks from which something is learned."""
    first = ticks[0]
    last = ticks[-1]
    tokens = _tokens(last) - _tokens(first)
    if case.spoils:
        # The line goes on making tokens, from which nothing is learned.
        tokens -= last["tokens"].get(target, 0.0) - first["tokens"].get(target, 0.0)
    return tokens


def _cost(ticks: Sequence[Tick]) -> dict[str, float]:
    """Return what the operator itself has taken."""
    if not ticks:
        return {"cpu_s": 0.0, "ticks": 0.0, "longest_tick_s": 0.0}
    cost: dict[str, float] = ticks[-1]["cost"]
    return cost


def over_budget_ws(ticks: Sequence[Tick]) -> float:
    """Return the energy above the budget [W s]."""
    total_ws = 0.0
    for before, now in pairwise(ticks):
        if now["limit_w"] is not None:
            total_ws += max(0.0, now["power_w"] - now["limit_w"]) * (now["t"] - before["t"])
    return total_ws


def alarm_ids(ticks: Sequence[Tick]) -> list[str]:
    """Return the warnings that were open, each once for each time it opened."""
    opened: list[str] = []
    before: set[str] = set()
    for tick in ticks:
        now = {name for name, severity in tick["open"] if severity >= Severity.WARNING}
        opened += sorted(now - before)
        before = now
    return opened


def _alarms(ticks: Sequence[Tick], case: Case, target: int) -> list[str]:
    expected = case.finds | case.follows
    return [name for name in alarm_ids(ticks) if not _is_about(name, expected, case, target)]


def _is_found(tick: Tick, case: Case, target: int) -> bool:
    return any(_is_about(name, case.finds, case, target) for name, _ in tick["open"])


def _is_about(name: str, faults: Collection[Fault], case: Case, target: int) -> bool:
    """Return whether a finding is about some faults, and about the line that has them."""
    fault, _, line = name.partition(":")
    return fault in faults and (case.is_of_floor or line in ("floor", str(target)))


def _acted_since(ticks: Sequence[Tick], since_s: float) -> list[tuple[int, str, int | None]]:
    """Return the actions that were carried out from a time on: number, verb, line."""
    earlier = {number for number, _, _ in _acted([tick for tick in ticks if tick["t"] < since_s])}
    return [one for one in _acted([tick for tick in ticks if tick["t"] >= since_s]) if one[0] not in earlier]


def _acted(ticks: Sequence[Tick]) -> list[tuple[int, str, int | None]]:
    """Return the actions that were carried out: number, verb, line."""
    seen: dict[int, tuple[int, str, int | None]] = {}
    for number, verb, line, status, _ in _decisions(ticks):
        if status in _DONE and verb != Verb.ALERT.value:
            # By number, since a decision shows in more than one tick.
            seen[number] = (number, verb, line)
    return list(seen.values())


def _decisions(ticks: Sequence[Tick]) -> Iterator[list[Any]]:
    for tick in ticks:
        yield from tick["decisions"]


def _is_right(one: tuple[int, str, int | None], case: Case, target: int) -> bool:
    _, verb, line = one
    return case.is_right(Verb(verb)) and (case.is_of_floor or line in (target, None))


def _repair_s(
    after: Sequence[Tick], case: Case, target: int, injected_s: float, found_s: float | None
) -> float | None:
    """Return the time until the finding was closed and the line had made another iteration."""
    if found_s is None:
        return None
    for tick in after:
        is_over = tick["t"] > found_s and not _is_found(tick, case, target)
        # A finding may also close because its line was ended: that repairs nothing.
        has_moved = tick["states"].get(target) == "running" and tick["moved"].get(target, 0.0) >= found_s
        if is_over and has_moved:
            return float(tick["t"] - injected_s)
    return None


def _tokens(tick: Mapping[str, Any]) -> float:
    return float(sum(tick["tokens"].values()))


def _joules(tick: Mapping[str, Any]) -> float:
    return float(sum(tick["joules"].values()))
