"""Situations for trying a language model without a floor: views in which the detectors find a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from factory.floor.lines import ExitClass, LineState
from factory.operator import guard
from factory.operator.candidates import candidates
from factory.operator.config import OperatorConfig
from factory.operator.deciders.llm import LEAST_CHOICES
from factory.operator.deciders.rule import RuleDecider
from factory.operator.detectors import DETECTORS
from factory.operator.view import CheckpointView, HostView, LineView, Row, View
from factory.operator.words import Candidate, Finding, Mode, Verb

_NOW_S = 10_000.0
_USUAL_S = 0.2
"""Duration of a healthy iteration."""
_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A finding, the floor around it, and what may be done."""

    finding: Finding
    view: View
    rule: Candidate
    choices: tuple[Candidate, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Return the fault, the rule's action and the possible actions."""
        return self.finding.fault, self.rule.verb, *dict.fromkeys(one.verb for one in self.choices)


def situations() -> list[Situation]:
    """Return the situations in which a language model is asked, each once."""
    found: dict[tuple[str, ...], Situation] = {}
    config = OperatorConfig()
    for view in _views():
        for detector in DETECTORS:
            for finding in detector.detect(view, config.detect):
                for mode in (Mode.AUTO, Mode.SUGGEST):
                    for one in _situation(finding, view, mode, config):
                        found.setdefault(one.key, one)
    return list(found.values())


def _situation(finding: Finding, view: View, mode: Mode, config: OperatorConfig) -> Iterator[Situation]:
    """Yield the situation, if the rule acts and there is enough to choose from."""
    possible = candidates(finding, view)
    rule = RuleDecider().choose(finding, possible, view)
    if rule is None or rule.verb is Verb.ALERT:
        return
    choices = guard.alternatives(rule, possible, view, [], config, mode=mode, is_broken=False)
    if len(choices) >= LEAST_CHOICES:
        yield Situation(finding=finding, view=view, rule=rule, choices=tuple(choices))


def _views() -> Iterator[View]:
    stopped = _line(is_stopped=True, silence_s=8.0, cores_busy=0.0)
    silent = _line(silence_s=400.0, cores_busy=0.0)
    crawling = _line(last_s=1.2)
    slow = _line(last_s=0.3)
    damaged = _line(checkpoint=CheckpointView(steps=5000, age_s=40.0, is_whole=False, missing_bytes=4096))
    crashed = _line(
        state=LineState.QUEUED, exit_class=ExitClass.CRASH, failures=1, retry_in_s=20.0, rows=(), usual=()
    )
    diverged = replace(crashed, exit_class=ExitClass.DIVERGED)
    crashing = replace(crashed, failures=3)
    # 30 MB/s: the 8 GB that are free would be full within five minutes.
    growing = _line(memory=tuple((_NOW_S - 60.0 + 2.0 * step, 1e9 + 6e7 * step) for step in range(31)))
    for line in (stopped, silent, crawling, slow, damaged, crashed, diverged, crashing, growing):
        yield _view(line)
    # The same with an idle CPU to move to.
    for line in (silent, replace(crawling, cores_busy=0.4), replace(slow, cores_busy=0.4)):
        yield _view(replace(line, cpus=(0,)), cpus_busy=(1.0, 1.0, 0.0, 0.0))
    three = [replace(slow, id=number, flex=number, priority=3 - number) for number in (1, 2, 3)]
    yield _view(*three, cores_busy=4.0, load=6.0)
    yield _view(*three, memory_free_bytes=2e8)
    large = CheckpointView(steps=5000, age_s=40.0, size_bytes=400_000_000)
    yield _view(*(replace(one, checkpoint=large) for one in three), disk_bytes=1e11, disk_free_bytes=1e9)


def _view(*lines: LineView, **host: object) -> View:
    """Return a floor with lines on a machine with changes."""
    healthy = HostView(num_cores=4.0, cores_busy=1.0, memory_bytes=16e9, memory_free_bytes=8e9)
    return View(now_s=_NOW_S, lines=lines, host=replace(healthy, **host))  # type: ignore[arg-type]


def _line(*, last_s: float = _USUAL_S, **changes: object) -> LineView:
    """Return a line that runs, whose last 20 iterations took some time."""
    durations = [_USUAL_S] * (_ROWS - 20) + [last_s] * 20
    rows = tuple(
        Row(
            seen_s=_NOW_S - _ROWS + index,
            steps=100 * index,
            iteration_s=duration_s,
            tokens_per_s=100.0 / duration_s,
            return_mean=float(index),
            approx_kl=0.01,
        )
        for index, duration_s in enumerate(durations)
    )
    healthy = LineView(
        id=1,
        state=LineState.RUNNING,
        state_age_s=600.0,
        total_steps=1_000_000,
        steps=6000,
        attempts=1,
        power_w=6.0,
        tokens_per_s=500.0,
        rows=rows,
        usual=tuple(durations[3:40]),
        cores_busy=0.9,
        checkpoint=CheckpointView(steps=5000, age_s=40.0),
    )
    return replace(healthy, **changes)  # type: ignore[arg-type]
