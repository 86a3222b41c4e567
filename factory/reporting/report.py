"""Write a run's report: one HTML page that needs no server, no network and no other file.

A pure function of the run folder, so it can be written again at any time. Joules stand beside their tier,
interval and boundary; pieces that the folder lacks are named at the top.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from factory.energy.types import PHASES, component_metrics
from factory.reporting import report_notes, run_curves
from factory.reporting.formatting import format_duration, format_percent, format_si
from factory.reporting.headlines import headlines, older_policy_note
from factory.reporting.html import write_html
from factory.reporting.run_folder import Run, read_run
from factory.runtime import stored_files

MAX_EMBEDDED_VIDEO_BYTES = 8 * 1024**2
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
        learning=run_curves.learning(run),
        episodes=run_curves.episodes(run),
        time_bar=time_bar,
        time_note=time_text,
        energy_bars=energy_bars,
        energy_note=energy_text,
        power=run_curves.power(run),
        rewards=run_curves.reward_terms(run),
        losses=run_curves.losses(run),
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
