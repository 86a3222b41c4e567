"""History of the lines, from the chain of events: their states over time, and the output of a shift."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.floor.audit import Event
from factory.floor.calibration import Prediction, calibrate, score
from factory.floor.compliance import compliance, max_excess_w, report_events, violation_ws
from factory.floor.forecasts import forecast_error
from factory.floor.lines import Line, LineState
from factory.floor.plan import PowerSample
from factory.floor.records import RUNNING, Sample
from factory.floor.shift import shift_answers
from factory.floor.store import Store
from factory.limits import limit_of

_MOST_EVENTS = 100_000
_ACTIONS = ("start", "pause", "resume", "preempt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time in which a line was in one state; seconds since 1970, UTC."""

    line: int
    state: LineState
    start: float
    end: float
    reason: str

    @property
    def duration_s(self) -> float:
        """Length [s]."""
        return self.end - self.start


def spans(events: Sequence[Event], *, now: float) -> list[Span]:
    """Return the states of all lines, oldest first; the present state of a line ends now.

    Args:
        events: events by falling time, as the store returns them.
        now: end of the last spans.
    """
    open_spans: dict[int, tuple[LineState, float, str]] = {}
    found: list[Span] = []
    # Oldest first: each change of a line ends the span before it.
    for event in reversed(events):
        if event.line is None or event.kind not in ("submitted", "moved"):
            continue
        if event.line in open_spans:
            state, start, reason = open_spans[event.line]
            found.append(Span(line=event.line, state=state, start=start, end=event.at, reason=reason))
        state = LineState(event.details.get("to", LineState.QUEUED))
        open_spans[event.line] = (state, event.at, str(event.details.get("reason", "")))
    for line, (state, start, reason) in open_spans.items():
        if not state.is_final:
            found.append(Span(line=line, state=state, start=start, end=max(now, start), reason=reason))
    return found


def power_samples(samples: Sequence[Sample]) -> list[PowerSample]:
    """Return samples of the store as the metrics of a budget take them; times are seconds since 1970."""
    return [
        PowerSample(
            sample.at,
            sample.power_w,
            limit_of(sample.budget_w),
            float(sample.tokens),
        )
        for sample in samples
    ]


def shift_report(store: Store, *, since: float) -> dict[str, Any]:
    """Return output, energy, waste, downtime and obedience to the budget since a time, as plain values.

    Args:
        store: the floor's store.
        since: start, in seconds since 1970; 0 for everything.
    """
    now = time.time()
    events = store.events(limit=_MOST_EVENTS)
    samples = store.samples(since=since)
    powers = power_samples(samples)
    reports = report_events(powers)
    error = forecast_error(powers, [(start_s, end_s) for start_s, end_s, _ in reports])
    ended = [line for line in store.lines() if line.state.is_final and line.state_since >= since]
    active = [line for line in store.lines() if line.state_since >= since or not line.state.is_final]
    return {
        "from": since or (samples[0].at if samples else now),
        "to": now,
        "policies": sum(line.state is LineState.FINISHED for line in ended),
        "failed": {str(line.id): line.reason for line in ended if line.state is LineState.FAILED},
        "cancelled": sum(line.state is LineState.CANCELLED for line in ended),
        **_work(samples, active),
        "time_s": _times(spans(events, now=now), since=since),
        "budget": _obedience(powers),
        "events": [asdict(report) for _, _, report in reports],
        "forecast": error and asdict(error),
        "predictions": _predictions(events, powers, since=since),
        "attempts": sum(attempt.started_at >= since for attempt in store.attempts()),
        "tier": store.get(RUNNING).get("tier", "none"),
        **shift_answers(store.root, since=since, now=now),
    }


def _work(samples: Sequence[Sample], lines: Sequence[Line]) -> dict[str, float]:
    """Return tokens and energy between the first and the last sample."""
    if not samples:
        return {"tokens": 0, "joules": 0.0, "waste_j": 0.0, "cpu_s": 0.0}
    first = samples[0]
    last = samples[-1]
    return {
        "tokens": last.tokens - first.tokens,
        "joules": last.joules - first.joules,
        "waste_j": math.fsum(line.waste_j for line in lines),
        "cpu_s": last.cpu_s - first.cpu_s,
    }


def _times(found: Sequence[Span], *, since: float) -> dict[str, float]:
    """Return the time that lines spent in each state, pauses by their reason [s]."""
    times: defaultdict[str, float] = defaultdict(float)
    for span in found:
        if span.end < since:
            continue
        name = span.state.value
        if span.state is LineState.PAUSED:
            name = "paused by a user" if span.reason == "paused by a user" else "paused for the budget"
        if span.state is LineState.QUEUED and "again in" in span.reason:
            name = "waiting after a failure"
        # A state that began before the shift counts from its begin.
        times[name] += span.end - max(since, span.start)
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _obedience(samples: Sequence[PowerSample]) -> dict[str, float] | None:
    """Return how well the power kept to the budget; None without a budget."""
    if not any(sample.limit_w < math.inf for sample in samples):
        return None
    return {
        "violation_ws": violation_ws(samples),
        "max_excess_w": max_excess_w(samples),
        "compliance": compliance(samples),
    }


def _predictions(
    events: Sequence[Event], samples: Sequence[PowerSample], *, since: float
) -> dict[str, float] | None:
    """Return the errors of the predicted changes of power; None without any that was seen."""
    calibration = calibrate(score(_made(events, since=since), samples))
    if calibration is None:
        return None
    return {
        "number": calibration.num_scores,
        "bias_w": calibration.bias_w,
        "mean_absolute_error_w": calibration.mean_absolute_error_w,
        "coverage": calibration.coverage,
    }


def _made(events: Sequence[Event], *, since: float) -> Iterator[Prediction]:
    """Yield the predictions of the scheduler's actions; a started line draws its power once it runs."""
    # A start is judged from the moment at which the line runs: its launch draws other powers.
    running_at: dict[int, float] = {}
    for event in events:
        # Events come newest first, so what is known here happened later.
        if event.line is None:
            continue
        if event.kind == "moved" and event.details.get("to") == LineState.RUNNING:
            running_at[event.line] = event.at
        if event.kind in _ACTIONS and event.at >= since and "predicted_w" in event.details:
            settled_at = event.at
            if event.kind == "start":
                settled_at = running_at.get(event.line, event.at)
            yield Prediction(
                line=event.line,
                verb=event.kind,
                at=event.at,
                settled_at=settled_at,
                predicted_w=float(event.details["predicted_w"]),
                sd_w=float(event.details.get("predicted_sd_w", 0.0)),
            )
