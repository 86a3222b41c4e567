"""Write a run's report: one HTML page that needs no server, no network and no other file.

A pure function of the run folder, so it can be written again at any time. Joules stand beside their tier,
interval and boundary; pieces that the folder lacks are named at the top.
"""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from factory.energy.types import PHASES, component_metrics
from factory.metric_keys import Metric, metric
from factory.reporting import report_notes
from factory.reporting.curves import MAX_POINTS, Curve, Panels, draw_panels, time_axis
from factory.reporting.formatting import format_duration, format_number, format_percent, format_si
from factory.reporting.headlines import headlines, older_policy_note
from factory.reporting.html import write_html
from factory.reporting.run_folder import Record, Run, read_run
from factory.runtime import stored_files

MAX_EMBEDDED_VIDEO_BYTES = 8 * 1024**2
_LEARNING = (
    "train/return_mean",
    "train/episode_length_mean",
    "train/success_rate",
    "eval/velocity_rms_m_per_s",
)
_MAX_POWER_POINTS = 100
_MIN_POWER_INTERVAL_S = 1.0
"""Shortest time over which a mean power is taken; shorter ones show the steps of the energy counter."""
_LEAST_LABELLED_SHARE = 0.2
"""Parts of a bar below this share have no room for their name."""


@dataclass(kw_only=True)
class Part:
    """One part of a stacked bar, as texts."""

    name: str
    value: str
    share: float
    percent: str
    color: str
    label: str


@dataclass(kw_only=True)
class Bar:
    """A total that is split into parts."""

    title: str
    parts: list[Part]


@dataclass(kw_only=True)
class Video:
    """A video of the run: its path in the folder, its content where it is embedded, and a note."""

    path: str
    data: str
    note: str


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run folder, from the folder's files alone, and return its path.

    A run that was interrupted or lacks pieces gets a report too, which names them.

    Raises:
        ValueError: `run_dir` is no folder.
    """
    if not run_dir.is_dir():
        raise ValueError(
            f"run={run_dir}: is no folder; give the folder of a run, outputs/<task>/<date>_<time>_<seed>"
        )
    run = read_run(run_dir.resolve())
    task = run.tags.get("task", run.folder.parent.name)
    # Sections without data are left out, and the head of the page names what is missing.
    total_j = run.metrics.get("energy/total_j", 0.0)
    time_bar = _time_bar(run)
    time_text = ""
    if time_bar:
        time_text = report_notes.time_note(run.metrics)
    energy_bars: list[Bar] = []
    energy_text = ""
    if total_j > 0.0:
        energy_bars = _energy_bars(run)
        energy_text = report_notes.energy_note(run)
    path = run_dir / "report.html"
    write_html(
        path,
        "report.html",
        title=f"{task} {run.folder.name}",
        task=task,
        run=run,
        facts=_facts(run),
        missing_pieces=report_notes.missing_pieces(run),
        tiles=headlines(run.metrics, run.tags),
        strip=_strip(run),
        videos=_videos(run),
        learning=_learning(run),
        time_bar=time_bar,
        time_note=time_text,
        energy_bars=energy_bars,
        energy_note=energy_text,
        power=_power(run),
        rewards=_reward_terms(run),
        losses=_losses(run),
        command=_command(run),
        code=report_notes.code_note(run.tags),
        determinism=report_notes.determinism_note(run.determinism),
        tags=_tags(run),
        metrics={key: f"{value:.6g}" for key, value in sorted(run.metrics.items())},
    )
    return path


def _facts(run: Run) -> list[str]:
    """Return robot, engine, device, folder and date for the line under the title."""
    tags = run.tags
    facts = [tags.get("robot"), tags.get("physics"), run.device or tags.get("device"), run.folder.name]
    if run.records:
        facts.append(datetime.fromtimestamp(run.records[0].time_unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return [fact for fact in facts if fact]


def _strip(run: Run) -> str:
    """Return the strip of stills in base64, empty without one."""
    path = run.folder / "videos" / "filmstrip.png"
    if not path.exists() or path.stat().st_size > MAX_EMBEDDED_VIDEO_BYTES:
        return ""
    return _base64(path)


def _videos(run: Run) -> list[Video]:
    """Return the videos, newest first, embedded while together they stay below 8 MiB."""
    videos: list[Video] = []
    budget = MAX_EMBEDDED_VIDEO_BYTES
    for path in reversed(run.videos):
        # The newest come first, so that the final policy is always on the page if it fits.
        budget -= path.stat().st_size
        data = ""
        if budget > 0:
            data = _base64(path)
        note = older_policy_note(path, run.metrics)
        videos.append(Video(path=path.relative_to(run.folder).as_posix(), data=data, note=note))
    return videos


def _base64(path: Path) -> str:
    return base64.b64encode(stored_files.read_bytes(path, limit=MAX_EMBEDDED_VIDEO_BYTES)).decode("ascii")


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


def _learning(run: Run) -> Panels:
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


def _env_steps(_: Run, records: Sequence[Record]) -> tuple[list[float], str]:
    return [float(record.step) for record in records], "env steps"


def _wall_time(run: Run, records: Sequence[Record]) -> tuple[list[float], str]:
    start_s = run.records[0].time_unix_s
    return time_axis([record.metrics.get("time/wall_s", record.time_unix_s - start_s) for record in records])


def _losses(run: Run) -> Panels:
    """Draw throughput, then every loss that the learner logged, known ones first."""
    logged = {key for record in run.records for key in record.metrics if key.startswith("loss/")}
    ordered = sorted(logged, key=lambda key: (metric(key).label == metric(key).key, key))
    curves: list[Curve] = []
    for key in ("factory/tokens_per_s", *ordered):
        known, values = _series(run.records, key)
        if known:
            curves.append(Curve(title=_title(metric(key)), x=[record.step for record in known], y=values))
    return draw_panels(curves, prefix="loss", narrow=True, note=_grouping(run.records))


def _power(run: Run) -> Panels:
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


def _reward_terms(run: Run) -> Panels:
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


def _time_bar(run: Run) -> Bar | None:
    """Split the wall time into every timed phase."""
    wall_s = run.metrics.get("time/wall_s", 0.0)
    if not wall_s > 0.0:
        return None
    # Only phases of training have a metric of their own; the rest becomes `other`.
    parts = {phase: run.metrics[f"time/{phase}_s"] for phase in PHASES if f"time/{phase}_s" in run.metrics}
    return _bar("Wall time by phase", parts, total=wall_s, show=format_duration)


def _energy_bars(run: Run) -> list[Bar]:
    """Split the joules by phase and by component."""
    metrics = run.metrics
    # Joules of all phases, those after training included.
    phases: dict[str, float] = {}
    for phase in PHASES:
        if f"energy/phase/{phase}_j" in metrics:
            phases[phase] = metrics[f"energy/phase/{phase}_j"]
    if "energy/unattributed_j" in metrics:
        phases["unattributed"] = metrics["energy/unattributed_j"]
    splits = (("Joules by phase", phases), ("Joules by component", component_metrics(metrics)))
    total_j = metrics["energy/total_j"]
    return [_bar(title, parts, total=total_j, show=_joules) for title, parts in splits if parts]


def _joules(value: float) -> str:
    return format_si(value, "J")


def _bar(title: str, parts: Mapping[str, float], *, total: float, show: Callable[[float], str]) -> Bar:
    """Return a stacked bar; the rest of a positive total is a part of its own."""
    shown = dict(parts)
    rest = total - sum(parts.values())
    # Rounding leaves a rest that is no part of anything.
    if rest > 1e-6 * total:
        shown["other"] = rest
    drawn: list[Part] = []
    for name, value in shown.items():
        share = value / total
        label = ""
        if share > _LEAST_LABELLED_SHARE:
            label = f"{name} {format_percent(share)}"
        drawn.append(
            Part(
                name=name,
                value=show(value),
                share=share,
                percent=f"{100 * share:.1f} %",
                color=f"var(--{name}, var(--rest))",
                label=label,
            )
        )
    return Bar(title=title, parts=drawn)


def _command(run: Run) -> str:
    """Return the command line that repeats the run, empty if it is not known."""
    if run.overrides is None:
        return ""
    return shlex.join(["python", "-m", "factory.train", *run.overrides])


def _tags(run: Run) -> dict[str, str]:
    """Return tags, versions and the MLflow run."""
    # Everything needed to look the run up elsewhere.
    tags = {**run.tags, **{f"version of {name}": version for name, version in run.versions.items()}}
    if run.mlflow_run_id:
        tags["mlflow_run_id"] = run.mlflow_run_id
    return tags
