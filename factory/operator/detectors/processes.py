"""Detectors of lines whose processes end, hang, or are slow."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log
from statistics import median

from factory.floor.lines import ExitClass, LineState
from factory.operator.detectors.base import finding, number
from factory.operator.statistics import cusum, logs, quantile, robust, slope
from factory.operator.thresholds import Thresholds
from factory.operator.view import LineView, View
from factory.operator.words import Fault, Finding, Severity

_CRASHED = frozenset({ExitClass.CRASH, ExitClass.OOM, ExitClass.KILLED, ExitClass.LOST, ExitClass.STALLED})


def crash(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines whose last attempt failed: a count of failures, and time until the next attempt."""
    for line in view.lines:
        is_waiting = line.state in (LineState.QUEUED, LineState.LOST)
        if is_waiting and line.exit_class in _CRASHED and line.retry_in_s > 0.0:
            yield finding(
                Fault.CRASH,
                line,
                number("failures in a row", line.failures, "attempts", 1),
                number("waits for", line.retry_in_s, "s", 0.0, line.state_age_s),
            )


def crash_loop(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines that failed by one cause several times in a row, without a checkpoint in between."""
    for line in view.lines:
        is_stuck = line.failures >= 2 and line.exit_class in _CRASHED | {ExitClass.DIVERGED}
        if not is_stuck or line.state in (LineState.FINISHED, LineState.CANCELLED):
            continue
        # A checkpoint since the last start: the next failure would not lose the same work again.
        if line.is_running and line.rows and line.checkpoint.age_s < line.state_age_s:
            continue
        yield finding(
            Fault.CRASH_LOOP,
            line,
            number("failures in a row", line.failures, "attempts", 2),
            number("new checkpoints", 0, "checkpoints", 1, line.state_age_s),
            severity=Severity.CRITICAL,
        )


def hang(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines without a new iteration that use no CPU, or whose processes another program has stopped."""
    for line in view.lines:
        if line.is_stopped:
            yield finding(
                Fault.HANG,
                line,
                number("stopped processes", 1, "processes", 1),
                number("silence", line.silence_s, "s", 0.0, line.silence_s),
                severity=Severity.CRITICAL,
            )
            continue
        limit_s = _silence_limit_s(line, limits)
        is_idle = line.cores_busy is not None and line.cores_busy <= limits.idle_cores * line.cores
        if limit_s is not None and line.silence_s > limit_s and is_idle:
            yield finding(
                Fault.HANG,
                line,
                number("silence", line.silence_s, "s", limit_s, line.silence_s),
                number("CPU use", line.cores_busy or 0.0, "cores", limits.idle_cores * line.cores),
                severity=Severity.CRITICAL,
            )


def crawl(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines that keep their CPU busy and hardly move, or no longer at all."""
    for line in view.lines:
        limit_s = _silence_limit_s(line, limits)
        is_busy = (line.cores_busy or 0.0) > limits.idle_cores * line.cores
        if limit_s is not None and line.silence_s > limit_s and is_busy:
            yield finding(
                Fault.CRAWL,
                line,
                number("silence", line.silence_s, "s", limit_s, line.silence_s),
                number("CPU use", line.cores_busy or 0.0, "cores", limits.idle_cores * line.cores),
            )
            continue
        recent = line.rows[-5:]
        if not is_busy or not _knows_usual(line, limits.baseline_rows, len(recent)):
            continue
        # Durations spread about a factor, not about a difference, so their logarithms are compared.
        centre, spread = _usual_pace(line, limits)
        fastest_s = min(row.iteration_s for row in recent)
        sigmas = (log(max(fastest_s, 1e-12)) - centre) / max(spread, limits.least_spread)
        factor = exp(centre) / median(row.iteration_s for row in recent)
        if sigmas > limits.crawl_sd and factor < limits.crawl_share:
            yield finding(
                Fault.CRAWL,
                line,
                number("fastest of five iterations", sigmas, "standard deviations", limits.crawl_sd),
                number("speed", factor, "times the usual", limits.crawl_share, line.silence_s),
            )


def fail_slow(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find single lines that have been slower than they used to be for many iterations, but do not crawl."""
    slow = _slow_lines(view, limits)
    # Then the cause is the crowd, which `contention` reports once for all of them.
    if not slow or (len(slow) > 1 and _is_crowded(view)):
        return
    crawling = {one.line for one in crawl(view, limits)}
    for line, factor, total_sd in slow:
        # One cause is reported once, as the worse of the two.
        if line.id in crawling:
            continue
        peers = [other for other, _, _ in slow if other.group == line.group and other.id != line.id]
        if peers and len(peers) == len(view.peers(line)):
            # All of them are slower: that is the task, not the place.
            continue
        yield finding(
            Fault.FAIL_SLOW,
            line,
            number("cumulative sum", total_sd, "standard deviations", limits.cusum_sd),
            number("iteration time", factor, "times the usual", limits.slow_factor, line.silence_s),
        )


def contention(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find several lines that are slow at once on a machine with more work than cores."""
    slow = _slow_lines(view, limits)
    if len(slow) < 2 or not _is_crowded(view):
        return
    yield finding(
        Fault.CONTENTION,
        None,
        number("slow lines", len(slow), "lines", 2),
        number("CPU use", view.host.cores_busy, "cores", 0.95 * view.host.num_cores),
        number(
            "iteration time", median(factor for _, factor, _ in slow), "times the usual", limits.slow_factor
        ),
    )


def memory(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines whose memory grows steadily and would soon not fit, and a shortage of memory on the host."""
    host = view.host
    # A share of a small memory, but no more than is needed of a large one.
    reserve = min(limits.memory_reserve * host.memory_bytes, limits.memory_reserve_bytes)
    if host.memory_free_bytes < reserve:
        largest = max((line.memory[-1][1] for line in view.lines if line.memory), default=0.0)
        yield finding(
            Fault.MEMORY,
            None,
            number("free memory", host.memory_free_bytes, "byte", reserve),
            number("largest line", largest, "byte", 0.0),
            severity=Severity.CRITICAL,
        )
    elif host.memory_pressure.some > limits.stall_some and host.memory_pressure.full > limits.stall_full:
        # Memory may be free, and yet all wait for pages that were thrown out too early.
        yield finding(
            Fault.MEMORY,
            None,
            number(
                "some process waits for memory", host.memory_pressure.some, "share", limits.stall_some, 10.0
            ),
            number(
                "all processes wait for memory", host.memory_pressure.full, "share", limits.stall_full, 10.0
            ),
            severity=Severity.CRITICAL,
        )
    for line in view.lines:
        # A start fills caches; only the second half of what is known counts until there is enough.
        points = [point for point in line.memory if point[0] >= view.now_s - 4.0 * limits.leak_window_s]
        if len(points) < 8 or points[-1][0] - points[0][0] < limits.leak_window_s:
            continue
        fit = slope(points)
        half = slope(points[len(points) // 2 :])
        # Growth that slows down is no leak: the slower of the two slopes counts.
        left_s = host.memory_free_bytes / max(min(fit.per_x, half.per_x), 1e-9)
        if fit.r2 > limits.leak_r2 and left_s < limits.leak_horizon_s:
            yield finding(
                Fault.MEMORY,
                line,
                number("R2 of growth", fit.r2, "", limits.leak_r2),
                number("memory is full in", left_s, "s", limits.leak_horizon_s, view.now_s - points[-1][0]),
            )


def _silence_limit_s(line: LineView, limits: Thresholds) -> float | None:
    """Return the longest silence of a line that is no fault; None while it owes no iteration."""
    if line.state is LineState.STARTING or (line.is_running and not line.rows):
        return limits.start_s
    if not line.is_running or line.steps >= line.total_steps:
        return None
    # Iterations differ, with evaluations and checkpoints between them; a hang is longer than any of these.
    slowest_s = quantile([row.iteration_s for row in line.rows], 0.99)
    return max(limits.hang_factor * slowest_s, limits.hang_s)


def _knows_usual(line: LineView, num_usual: int, num_recent: int) -> bool:
    """Return whether a line runs and has done enough iterations to compare the newest ones with."""
    return line.is_running and len(line.usual) >= num_usual and len(line.rows) >= num_usual + num_recent


def _usual_pace(line: LineView, limits: Thresholds) -> tuple[float, float]:
    """Return centre and spread of the logarithm of the usual iteration time."""
    times = logs(line.usual)
    pace = robust(times)
    half = times[: len(times) // 2]
    if len(half) >= limits.baseline_rows:
        # What slows a line down for long must not pass for usual: the first half is compared with it longer.
        pace = min(pace, robust(half))
    return pace


def _slow_lines(view: View, limits: Thresholds) -> list[tuple[LineView, float, float]]:
    """Return slow lines with the factor of their iteration time and its cumulative sum."""
    found: list[tuple[LineView, float, float]] = []
    for line in view.lines:
        if not _knows_usual(line, limits.baseline_rows, limits.slow_rows):
            continue
        centre, spread = _usual_pace(line, limits)
        times = [row.iteration_s for row in line.rows[-limits.slow_rows :]]
        total_sd = cusum(logs(times), centre=centre, spread=max(spread, limits.least_spread))
        usual_s = exp(centre)
        # A quarter of the iterations at most may be as fast as usual: a few slow ones are no trend.
        factor = quantile(times, 0.25) / usual_s
        if total_sd > limits.cusum_sd and factor >= limits.slow_factor:
            found.append((line, median(times) / usual_s, total_sd))
    return found


def _is_crowded(view: View) -> bool:
    return view.host.cores_busy >= 0.95 * view.host.num_cores and view.host.load > view.host.num_cores
