"""Curves of a run's report: learning, episodes, losses, power and reward terms over the iterations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from factory.metric_keys import Metric, is_listed, metric
from factory.reporting.curves import MAX_POINTS, Curve, Panels, draw_panels, time_axis
from factory.reporting.formatting import format_duration, format_number
from factory.reporting.run_folder import Record, Run

_LEARNING = (
    "train/return_mean",
    "train/episode_length_mean",
    "train/success_rate",
    "eval/velocity_rms_m_per_s",
)
_MAX_POWER_POINTS = 100
_MIN_POWER_INTERVAL_S = 1.0
"""Shortest time over which a mean power is taken; shorter ones show the steps of the energy counter."""


def _series(records: Iterable[Record], key: str) -> tuple[list[Record], list[float]]:
    """Return the iterations that hold the metric as a finite number, and its values."""
    # An iteration may lack a metric, and a run that diverged has infinities.
    known = [record for record in records if math.isfinite(record.metrics.get(key, math.nan))]
    return known, [record.metrics[key] for record in known]


def _title(known: Metric) -> str:
    """Return label and unit of a metric; shares are drawn as they are, from 0 to 1."""
    if known.unit in ("", "%"):
        return known.label
    return f"{known.label} ({known.unit})"


def learning(run: Run) -> Panels:
    """Draw return, episode length, success and tracking error, each over env steps and over wall time."""
    curves: list[Curve] = []
    for key in _LEARNING:
        known, values = _series(run.records, key)
        if not known:
            continue
        # Evaluations belong on the curve of the return.
        marked: list[Record] = []
        marks: list[float] = []
        if key == "train/return_mean":
            marked, marks = _series(known, "eval/return_mean")
        for along in (_env_steps, _wall_time):
            x, label = along(run, known)
            # Marks share the positions of their iterations.
            at = dict(zip((record.step for record in known), x, strict=True))
            points = [(at[record.step], mark) for record, mark in zip(marked, marks, strict=True)]
            curves.append(Curve(title=_title(metric(key)), x=x, y=values, x_label=label, marks=points))
    note = _grouping(run.records)
    if any(curve.marks for curve in curves):
        note += " Diamonds: evaluations."
    return draw_panels(curves, prefix="learn", note=note)


def episodes(run: Run) -> Panels:
    """Draw the outcomes of episodes, then what else the task measures of them, with evaluations as marks."""
    logged = {key for record in run.records for key in record.metrics if key.startswith("train/")}
    own = sorted(logged.difference(_LEARNING), key=lambda key: (not key.startswith("train/outcome/"), key))
    curves: list[Curve] = []
    for key in own:
        known, values = _series(run.records, key)
        marked, marks = _series(run.records, f"eval/{key.removeprefix('train/')}")
        points = [(float(record.step), mark) for record, mark in zip(marked, marks, strict=True)]
        steps = [float(record.step) for record in known]
        if known:
            curves.append(Curve(title=_title(metric(key)), x=steps, y=values, marks=points))
    note = _grouping(run.records)
    if any(curve.marks for curve in curves):
        note += " Diamonds: evaluations."
    return draw_panels(curves, prefix="episode", narrow=True, note=note)


def _env_steps(_: Run, records: Sequence[Record]) -> tuple[list[float], str]:
    return [float(record.step) for record in records], "env steps"


def _wall_time(run: Run, records: Sequence[Record]) -> tuple[list[float], str]:
    start_s = run.records[0].time_unix_s
    return time_axis([record.metrics.get("time/wall_s", record.time_unix_s - start_s) for record in records])


def losses(run: Run) -> Panels:
    """Draw throughput, then every loss that the learner logged, known ones first."""
    logged = {key for record in run.records for key in record.metrics if key.startswith("loss/")}
    ordered = sorted(logged, key=lambda key: (not is_listed(key), key))
    curves: list[Curve] = []
    for key in ("factory/tokens_per_s", *ordered):
        known, values = _series(run.records, key)
        if known:
            curves.append(Curve(title=_title(metric(key)), x=[record.step for record in known], y=values))
    return draw_panels(curves, prefix="loss", narrow=True, note=_grouping(run.records))


def power(run: Run) -> Panels:
    """Draw the mean power between iterations over wall time, dE / dt."""
    keys = {"energy/total_j", "time/wall_s"}
    # The last row's joules belong to the stages after training, its seconds to the training.
    known = [record for record in run.records if keys <= record.metrics.keys() and not record.is_final]
    if len(known) < 2:
        return Panels()
    duration_s = known[-1].metrics["time/wall_s"] - known[0].metrics["time/wall_s"]
    # Long runs are averaged over a hundredth of their time.
    interval_s = max(_MIN_POWER_INTERVAL_S, duration_s / _MAX_POWER_POINTS)
    times_s: list[float] = []
    powers_w: list[float] = []
    last = known[0].metrics
    for record in known[1:]:
        now = record.metrics
        passed_s = now["time/wall_s"] - last["time/wall_s"]
        if passed_s < interval_s:
            continue
        times_s.append((now["time/wall_s"] + last["time/wall_s"]) / 2)
        powers_w.append((now["energy/total_j"] - last["energy/total_j"]) / passed_s)
        last = now
    if not any(map(math.isfinite, powers_w)):
        return Panels()
    x, label = time_axis(times_s)
    curve = Curve(title=f"Power (W, {run.tier or 'tier unknown'})", x=x, y=powers_w, x_label=label)
    note = f"Mean over at least {format_duration(interval_s)}; evaluation, video and export come after it."
    return draw_panels([curve], prefix="power", note=note)


def reward_terms(run: Run) -> Panels:
    """Draw one panel a term, the largest at the end of the run first."""
    steps = run.reward_terms.get("step", [])
    known = [
        (name, values)
        for name, values in run.reward_terms.items()
        if name != "step" and any(map(math.isfinite, values))
    ]
    # Large terms decide the behaviour, so they come first.
    known.sort(key=lambda term: -_size(term[1][-1]))
    curves = [
        Curve(title=f"{name}: {format_number(values[-1])}", x=steps, y=values) for name, values in known
    ]
    note = f"The number is the last value; each panel has its own scale. {_grouping(steps)}"
    return draw_panels(curves, prefix="term", narrow=True, note=note)


def _size(value: float) -> float:
    """Return the magnitude, 0 of what is not finite."""
    if math.isfinite(value):
        return abs(value)
    return 0.0


def _grouping(points: Sequence[object]) -> str:
    if len(points) <= MAX_POINTS:
        return ""
    return f"Lines are means of {MAX_POINTS} groups of iterations, bands their extremes."
