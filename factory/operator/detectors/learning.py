"""Detectors of lines that run well and learn badly, or have nothing left to learn."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from factory.floor.lines import ExitClass, LineState
from factory.operator.detectors.base import finding, number
from factory.operator.statistics import roughness, slope
from factory.operator.thresholds import Thresholds
from factory.operator.view import LineView, View
from factory.operator.words import Fault, Finding, Severity

_RECENT = 10
_FEWEST_WINDOWS = 8
"""Windows of returns that tell a level, and the loss of it."""


def divergence(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines with values that are not finite, or whose policy jumps."""
    for line in view.lines:
        if line.exit_class is ExitClass.DIVERGED and line.state is LineState.QUEUED:
            yield finding(
                Fault.DIVERGENCE,
                line,
                number("attempts that diverged", line.failures, "attempts", 1),
                number("lost steps", line.steps, "steps", 0.0, line.state_age_s),
                severity=Severity.CRITICAL,
            )
            continue
        rows = line.rows[-_RECENT - 1 :]
        if not line.is_running or len(rows) <= limits.bad_rows:
            continue
        # Counts are totals of the run. Several iterations have to add to them, as one bad batch is skipped.
        growths = [new.num_bad - old.num_bad for old, new in pairwise(rows)]
        num_bad_rows = sum(growth > 0.0 for growth in growths)
        if num_bad_rows >= limits.bad_rows and sum(growths) >= limits.bad_rows:
            yield finding(
                Fault.DIVERGENCE,
                line,
                number("iterations with bad values", num_bad_rows, "of the last 10", limits.bad_rows),
                number("bad values", sum(growths), "samples, steps and rollbacks", limits.bad_rows),
                severity=Severity.CRITICAL,
            )
            continue
        jump = median(row.approx_kl for row in rows[-limits.bad_rows :])
        usual = median(row.approx_kl for row in line.rows)
        # A policy that has jumped from the start has no usual value to be compared with.
        is_unusual = jump > limits.kl_factor * usual or usual > limits.kl
        if is_unusual and jump > limits.kl:
            yield finding(
                Fault.DIVERGENCE,
                line,
                number("KL divergence over its median", jump / max(usual, 1e-9), "", limits.kl_factor),
                number("KL divergence", jump, "nat", limits.kl, line.silence_s),
                severity=Severity.CRITICAL,
            )


def collapse(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines that have lost much of what they had learned, while their peers have not."""
    lost = {line.id: _loss(line, limits) for line in view.lines}
    for line in view.lines:
        found = lost[line.id]
        if found is None:
            continue
        peers = view.peers(line)
        if peers and all(lost[peer.id] is not None for peer in peers):
            # All seeds lose at once: a curriculum has become harder.
            continue
        share, sigmas = found
        yield finding(
            Fault.COLLAPSE,
            line,
            number("loss over the noise", sigmas, "standard deviations", limits.collapse_sd),
            number("loss of the improvement", share, "share", limits.collapse_share, line.silence_s),
        )


def stagnation(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines that have reached their threshold, or rise no longer, with many steps to go."""
    for line in view.lines:
        left = 1.0 - line.steps / max(1, line.total_steps)
        if not line.is_running or left < limits.early_share or not line.rows:
            continue
        if line.rows[-1].has_reached_threshold:
            yield finding(
                Fault.STAGNATION,
                line,
                number("threshold reached", 1, "", 1),
                number("steps left", left, "share", limits.early_share),
                severity=Severity.INFO,
            )
            continue
        returns = _returns(line)[-limits.plateau_rows :]
        if len(returns) < limits.plateau_rows:
            continue
        fit = slope([(float(index), value) for index, value in enumerate(returns)])
        # The yardstick of a plateau is what the line has learned so far, since returns have no common unit.
        learned = max(line.returns) - min(line.returns)
        change = abs(fit.per_x) * len(returns)
        # Rising by less than two standard errors cannot be told from not rising.
        is_flat = fit.per_x - 2.0 * fit.error <= 0.0
        if is_flat and change < limits.plateau_share * learned:
            yield finding(
                Fault.STAGNATION,
                line,
                number("trend over its error", fit.per_x / max(fit.error, 1e-12), "", 2.0),
                number(
                    "change over the plateau", change / max(learned, 1e-12), "share", limits.plateau_share
                ),
                severity=Severity.INFO,
            )


def bad_checkpoint(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines whose newest checkpoint lacks bytes that its checksum file promises."""
    for line in view.lines:
        seen = line.checkpoint
        if line.state.is_final or seen.is_whole:
            continue
        yield finding(
            Fault.BAD_CHECKPOINT,
            line,
            number("bytes that differ", seen.missing_bytes, "byte", 1, seen.age_s),
            number("steps at risk", max(seen.steps, 1), "steps", 1),
        )


def _returns(line: LineView) -> list[float]:
    return [row.return_mean for row in line.rows if row.return_mean is not None]


def _loss(line: LineView, limits: Thresholds) -> tuple[float, float] | None:
    """Return the lost share of what a line had learned, and the loss over the noise; None if it is small.

    The last three windows all have to be below, so that one bad window is no collapse.
    """
    windows = line.returns
    if not line.is_running or len(windows) < _FEWEST_WINDOWS:
        return None
    earlier = windows[:-3]
    # Medians of three in a row: one lucky window is no level that can be lost.
    levels = [median(earlier[start : start + 3]) for start in range(len(earlier) - 2)]
    best = max(levels)
    learned = best - min(earlier[: levels.index(best) + 1])
    # The best of the last three is compared with the best before: the kindest comparison has to fail.
    lost = best - max(windows[-3:])
    noise = max(roughness(earlier), 1e-9)
    share = lost / max(learned, 1e-9)
    # What was never learned cannot be lost.
    has_learned = learned > limits.collapse_sd * noise
    if has_learned and share > limits.collapse_share and lost > limits.collapse_sd * noise:
        return share, lost / noise
    return None
