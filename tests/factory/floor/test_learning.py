"""Windows of lines that run become observations; start-up, other states and other attempts do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factory.floor.curves import CURVES
from factory.floor.learning import CurveWatch
from factory.floor.lines import Line, LineState, Needs
from factory.runtime.decoding import decode

LINE = Line(
    id=1,
    name="a",
    task="cartpole_swingup",
    overrides=("seed=1",),
    spec_hash="",
    total_steps=10**6,
    needs=Needs(cores=2.0, memory_bytes=0),
    state=LineState.RUNNING,
    attempts=1,
)


def watched(*, plain: list[dict[str, object]] | None = None) -> CurveWatch:
    """Return a watch of a known machine."""
    stored = decode(plain or [], CURVES.hint, name="curves")
    return CurveWatch(stored, prior_w_per_core=8.0, machine="node", version="commit")


def pass_seconds(watch: CurveWatch, line: Line, start: int, end: int, *, power_w: float) -> int:
    """Let a line do 100 tokens a second while it runs; return the number of observations."""
    found = 0
    for second in range(start, end):
        line = replace(line, tokens=100 * second)
        found += watch.tick(line, now_s=float(second), power_w=power_w)
    return found


def test_windows_after_the_warm_up_are_learned() -> None:
    """After 10 s, each 10 s are an observation: four in 50 s."""
    watch = watched()
    assert pass_seconds(watch, LINE, 0, 51, power_w=12.0) == 4
    point = watch.point(LINE)
    assert not point.is_prior
    assert point.power_w == pytest.approx(12.0)
    assert point.tokens_per_s == pytest.approx(100.0)
    assert watched(plain=watch.curves.to_plain()).point(LINE) == point


def test_pauses_shorten_the_window() -> None:
    """A window of which half was a pause says as much about the power at full."""
    watch = watched()
    pass_seconds(watch, LINE, 0, 11, power_w=12.0)
    paused = replace(LINE, state=LineState.PAUSED)
    for second in range(11, 61):
        line = paused
        power_w = 0.0
        if second % 2:
            line = LINE
            power_w = 12.0
        watch.tick(replace(line, tokens=50 * second), now_s=float(second), power_w=power_w)
    assert watch.point(LINE).power_w == pytest.approx(12.0)


def test_another_attempt_begins_anew() -> None:
    """Neither the time between two attempts nor the start of the next is learned from."""
    watch = watched()
    assert pass_seconds(watch, LINE, 0, 15, power_w=12.0) == 0
    assert pass_seconds(watch, replace(LINE, attempts=2), 15, 34, power_w=12.0) == 0
    assert pass_seconds(watch, replace(LINE, state=LineState.STARTING), 34, 100, power_w=12.0) == 0


def test_a_line_with_a_speed_of_its_own_keeps_it() -> None:
    """The curve knows the configuration, the line knows itself."""
    assert watched().point(replace(LINE, tokens_per_s=7.0)).tokens_per_s == 7.0


def test_this_host_has_a_name_and_a_version() -> None:
    """Both are found without being told."""
    watch = CurveWatch([], prior_w_per_core=8.0)
    assert watch.point(LINE).upper_w == pytest.approx(16.0)
