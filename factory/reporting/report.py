"""Write a run's report: one HTML page that needs no server, no network and no other file.

A pure function of the run folder, so it can be written again at any time. Joules stand beside their tier,
interval and boundary; what the folder lacks is named at the top.
"""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from factory.energy.types import PHASES, component_metrics
from factory.reporting.formatting import (
    energy_text,
    format_duration,
    format_number,
    format_percent,
    format_si,
    headlines,
)
from factory.reporting.html import folded, write_html
from factory.reporting.report_charts import MAX_POINTS, Curve, panels, stacked_bar, time_axis
from factory.reporting.run_folder import Record, Run, read_run

MAX_EMBEDDED_VIDEO_BYTES = 8 * 1024**2
TIER_SENTENCES = {
    "measured": "Hardware energy counters were read all along the run.",
    "sampled": "The hardware's power was read repeatedly and integrated; peaks between readings are lost.",
    "apportioned": "The energy of shared hardware was divided by this run's share of its use.",
    "shared": "Others used the same hardware: its counter is an upper bound for this run.",
    "calibrated": "No hardware counter was readable; CPU time times a power model fitted to another meter.",
    "estimated": "No hardware counter was readable; the figure comes from CPU time times a power model.",
    "replayed": "The power comes from a recording of another run, not from this machine.",
}
CURVES = {
    "train/return_mean": "Return",
    "train/episode_length_mean": "Episode length (control steps)",
    "train/success_rate": "Success rate",
    "eval/velocity_rms_m_per_s": "Tracking error, evaluation (m/s)",
}
SMALL_CURVES = {
    "factory/tokens_per_s": "Control tokens/s",
    "loss/learning_rate": "Learning rate",
    "loss/approx_kl": "Approximate KL",
    "loss/policy": "Policy loss",
    "loss/value": "Value loss",
    "loss/entropy": "Entropy",
    "loss/clip_fraction": "Clip fraction",
    "loss/explained_variance": "Explained variance",
    "loss/grad_norm": "Gradient norm",
}


def missing_pieces(run: Run) -> list[str]:
    """Return one sentence for everything a whole run would have and this one has not."""
    has_energy = "energy/total_j" in run.metrics
    checks = (
        (
            run.status in ("finished", "unknown"),
            f"The run did not finish (status: {run.status}); figures are the last known ones.",
        ),
        (run.status != "unknown", "No summary.json: status, tags, versions and energy tier are not known."),
        (bool(run.records), "No metrics.jsonl: there are no curves."),
        (any(key.startswith("eval/") for key in run.metrics), "No evaluation: skill is as seen in training."),
        (bool(run.videos) or (run.folder / "videos/filmstrip.png").exists(), "No video and no film strip."),
        (has_energy, "No energy figures: the run was not metered."),
        (bool(run.tier) or not has_energy, "No energy tier was recorded: do not quote the joules."),
        (bool(run.config_text), "No config.yaml: the configuration is not known."),
        (run.overrides is not None, "No .hydra/overrides.yaml: the command line is not known."),
    )
    return [sentence for present, sentence in checks if not present]


def _header(run: Run) -> str:
    tags = run.tags
    odd = "" if run.status == "finished" else " odd"
    facts = [tags.get("robot"), tags.get("physics"), run.device or tags.get("device"), run.folder.name]
    if run.records:
        facts.append(datetime.fromtimestamp(run.records[0].time_unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    missing = "".join(f"<li>{escape(sentence)}</li>" for sentence in missing_pieces(run))
    return (
        f"<header><h1>{escape(tags.get('task', run.folder.parent.name))}"
        f'<span class="status{odd}">{escape(run.status)}</span></h1>'
        f'<p class="quiet">{" &middot; ".join(escape(fact) for fact in facts if fact)}</p></header>'
        + (
            f'<div class="missing"><strong>What is missing</strong><ul>{missing}</ul></div>'
            if missing
            else ""
        )
    )


def _tiles(run: Run) -> str:
    tiles = "".join(
        f'<div class="tile"><dt>{escape(row.label)}</dt><dd><div class="value">{escape(row.value)}</div>'
        f'<div class="note">{escape(row.note)}</div></dd></div>'
        for row in headlines(run.metrics, run.tags)
    )
    return f'<dl class="tiles">{tiles}</dl>'


def _film(run: Run) -> str:
    """Return the film strip and the videos: embedded, newest first, while together they stay below 8 MiB."""
    parts, strip, budget = [], run.folder / "videos" / "filmstrip.png", MAX_EMBEDDED_VIDEO_BYTES
    if strip.exists():
        alt = f"Film strip of one episode of {run.tags.get('task', 'the task')}, time from left to right"
        parts.append(f'<img alt="{escape(alt)}" src="data:image/png;base64,{_base64(strip)}">')
    for video in reversed(run.videos):
        budget -= video.stat().st_size
        if budget > 0:
            source = f"data:video/mp4;base64,{_base64(video)}"
            parts.append(f'<video controls muted loop playsinline src="{source}"></video>')
        path = video.relative_to(run.folder).as_posix()
        parts.append(f'<p class="quiet">Video file: <a href="{escape(path)}">{escape(path)}</a></p>')
    return f'<h2>What the policy does</h2><div class="film">{"".join(parts)}</div>' if parts else ""


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _series(records: Iterable[Record], key: str) -> tuple[list[Record], list[float]]:
    """Return the iterations that hold the metric as a finite number, and its values."""
    known = [record for record in records if math.isfinite(record.metrics.get(key, math.nan))]
    return known, [record.metrics[key] for record in known]


def _learning(run: Run) -> str:
    """Return return, episode length, success and tracking error, each over env steps and over wall time."""
    curves = []
    for key, title in CURVES.items():
        known, values = _series(run.records, key)
        if not known:
            continue
        marked, marks = _series(known, "eval/return_mean") if key == "train/return_mean" else ([], [])
        for along in (_env_steps, _wall_time):
            x, label = along(run, known)
            at = dict(zip((record.step for record in known), x, strict=True))
            points = [(at[record.step], mark) for record, mark in zip(marked, marks, strict=True)]
            curves.append(Curve(title=title, x=x, y=values, x_label=label, marks=points))
    note = " Diamonds: evaluations." if any(curve.marks for curve in curves) else ""
    return _curves("Learning", curves, prefix="learn", note=_grouping(run.records) + note)


def _env_steps(_: Run, records: Sequence[Record]) -> tuple[list[float], str]:
    return [float(record.step) for record in records], "env steps"


def _wall_time(run: Run, records: Sequence[Record]) -> tuple[list[float], str]:
    start_s = run.records[0].time_unix_s
    return time_axis([record.metrics.get("time/wall_s", record.time_unix_s - start_s) for record in records])


def _small_multiples(run: Run) -> str:
    curves = [
        Curve(title=title, x=[record.step for record in known], y=values)
        for key, title in SMALL_CURVES.items()
        for known, values in [_series(run.records, key)]
        if known
    ]
    return _curves("Throughput and losses", curves, prefix="loss", narrow=True, note=_grouping(run.records))


def _reward_terms(run: Run) -> str:
    """Return one panel a term, the largest at the end of the run first."""
    steps = run.reward_terms.get("step", [])
    known = [
        (name, values)
        for name, values in run.reward_terms.items()
        if name != "step" and any(map(math.isfinite, values))
    ]
    known.sort(key=lambda term: -abs(term[1][-1]) if math.isfinite(term[1][-1]) else 0.0)
    curves = [
        Curve(title=f"{name}: {format_number(values[-1])}", x=steps, y=values) for name, values in known
    ]
    note = f"The number is the last value; each panel has its own scale. {_grouping(steps)}"
    return _curves("Reward terms", curves, prefix="term", narrow=True, note=note)


def _grouping(points: Sequence[object]) -> str:
    if len(points) <= MAX_POINTS:
        return ""
    return f"Lines are means of {MAX_POINTS} groups of iterations, bands their extremes."


def _curves(
    heading: str, curves: Sequence[Curve], *, prefix: str, narrow: bool = False, note: str = ""
) -> str:
    if not curves:
        return ""
    figures = panels(curves, prefix=prefix, narrow=narrow)
    return f'<h2>{heading}</h2>{figures}<p class="quiet">{escape(note)}</p>'


def _time_split(run: Run) -> str:
    """Return the seconds of every timed phase, and those of the physics engine within."""
    wall_s = run.metrics.get("time/wall_s", 0.0)
    if not wall_s > 0.0:
        return ""
    parts = {phase: run.metrics[f"time/{phase}_s"] for phase in PHASES if f"time/{phase}_s" in run.metrics}
    bar = stacked_bar(parts, total=wall_s, show=format_duration, title="Wall time by phase")
    physics_s = run.metrics.get("time/physics_s", math.nan)
    engine = f" The physics engine alone, within sim, took {format_percent(physics_s / wall_s)} of it."
    caption = f"Wall time {format_duration(wall_s)}.{engine if math.isfinite(physics_s) else ''}"
    return f'<h2>Where the time went</h2>{bar}<p class="quiet">{caption}</p>'


def _joules(value: float) -> str:
    return format_si(value, "J")


def _energy_split(run: Run) -> str:
    """Return joules by phase and by component, with tier, interval, boundary and what they mean."""
    metrics, total_j = run.metrics, run.metrics.get("energy/total_j", 0.0)
    if not total_j > 0.0:
        return ""
    phases = {
        phase: metrics[f"energy/phase/{phase}_j"] for phase in PHASES if f"energy/phase/{phase}_j" in metrics
    }
    phases |= {"unattributed": metrics["energy/unattributed_j"]} if "energy/unattributed_j" in metrics else {}
    devices = component_metrics(metrics)
    splits = ((phases, "Joules by phase"), (devices, "Joules by component"))
    bars = "".join(
        stacked_bar(parts, total=total_j, show=_joules, title=title) for parts, title in splits if parts
    )
    total, source = energy_text(total_j, metrics, tier=run.tier)
    low, high = (_joules(metrics.get(f"energy/total_j_{side}", math.nan)) for side in ("lo", "hi"))
    bounded = "-" not in (low, high) and run.tier != "replayed"
    confidence = (
        ", if the model suits this machine" if run.tier == "estimated" else " with about 95 % confidence"
    )
    caption = (
        f"Total {total} ({source}). Boundary: {run.tags.get('energy.boundary', 'not recorded')}. "
        f"{TIER_SENTENCES.get(run.tier, 'How the figure came about was not recorded.')} "
        + (f"The true value lies in [{low}, {high}]{confidence}. " if bounded else "")
        + _split_note(run.tags)
    )
    heading = "<h2>Where the energy went</h2>"
    return f'{heading}<div class="curves">{bars}</div><p class="quiet">{escape(caption)}</p>'


def _split_note(tags: Mapping[str, str]) -> str:
    """Say how far the parts are to be trusted, where that is on record."""
    components, phases = tags.get("energy.components"), tags.get("energy.phase_tier")
    said = f"Components: {components}. " if components else ""
    return said + (f"Split into phases: {phases}, by time within short windows." if phases else "")


def _repeat(run: Run) -> str:
    """Return the command line, the code's version, the configuration and every figure."""
    commit, dirty = run.tags.get("git.commit", ""), run.tags.get("git.dirty", "").lower() == "true"
    code = f"Code: git commit {commit}." if commit else "Code: git commit not recorded."
    code += (
        " The working tree had uncommitted changes: the commit alone does not repeat this run."
        if dirty
        else ""
    )
    html = "<h2>Repeat it</h2>"
    if run.overrides is not None:
        command = shlex.join(["python", "-m", "factory.train", *run.overrides])
        html += f'<pre class="command">{escape(command)}</pre>'
    html += f'<p class="quiet">{escape(code)}</p>'
    facts = {**run.tags, **{f"version of {name}": version for name, version in run.versions.items()}}
    facts |= {"mlflow_run_id": run.mlflow_run_id} if run.mlflow_run_id else {}
    exact = {key: f"{value:.6g}" for key, value in sorted(run.metrics.items())}
    html += folded("Configuration", f"<pre>{escape(run.config_text)}</pre>") if run.config_text else ""
    html += folded("Tags and versions", _table(facts)) if facts else ""
    return html + (folded("Every figure, last value", _table(exact, number=True)) if exact else "")


def _table(pairs: Mapping[str, str], *, number: bool = False) -> str:
    cell = '<td class="number">' if number else "<td>"
    rows = (f'<tr><th scope="row">{escape(k)}</th>{cell}{escape(v)}</td></tr>' for k, v in pairs.items())
    return f"<table>{''.join(rows)}</table>"


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run folder, from the folder's files alone, and return its path.

    A run that was interrupted or lacks pieces gets a report too, which says what is missing.

    Raises:
        ValueError: `run_dir` is no folder.
    """
    if not run_dir.is_dir():
        raise ValueError(
            f"run={run_dir}: is no folder; give the folder of a run, outputs/<task>/<date>_<time>_<seed>"
        )
    run = read_run(run_dir.resolve())
    sections = (
        *(_header, _tiles, _film, _learning, _time_split, _energy_split),
        *(_reward_terms, _small_multiples, _repeat),
    )
    title = f"{run.tags.get('task', run.folder.parent.name)} {run.folder.name}"
    path = run_dir / "report.html"
    write_html(path, title=title, body="".join(section(run) for section in sections))
    return path
