"""The metrics that sum up a run, for the console's last lines and the tiles of the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from factory.intervals import share_interval
from factory.metric_keys import metric
from factory.reporting.formatting import (
    energy_text,
    format_metric,
    format_number,
    format_percent,
    format_plain,
    format_si,
)

J_PER_WH = 3600.0


class Headline(NamedTuple):
    """One metric that sums up a run, as texts."""

    label: str
    value: str
    note: str = ""


def headlines(metrics: Mapping[str, float], tags: Mapping[str, str]) -> list[Headline]:
    """Return the metrics that sum up a run, the policy's skill first, absent ones left out."""
    tier = tags.get("energy.tier", "")
    return [*_skill(metrics), *_speed(metrics), *_energy(metrics, tier), *_site(metrics, tier)]


def _skill(metrics: Mapping[str, float]) -> Iterator[Headline]:
    """Yield the skill of the policy, from the evaluation if there was one, else from training."""
    # The evaluation is the better witness: fixed seeds, no exploration noise.
    side = "train"
    note = "training, no evaluation"
    if "eval/return_mean" in metrics:
        side = "eval"
        note = "evaluation"
    notes = {
        "eval/velocity_rms_m_per_s": "RMS of velocity, evaluation",
        f"{side}/return_mean": note + _spread(metrics),
        f"{side}/success_rate": note + share_bounds(metrics, f"{side}/success_rate"),
        "eval/fall_rate": "evaluation" + share_bounds(metrics, "eval/fall_rate"),
    }
    for key, remark in notes.items():
        if key in metrics:
            known = metric(key)
            label = known.label.partition(",")[0]
            yield Headline(label, format_metric(known, metrics[key]), remark)
    prefix = f"{side}/outcome/"
    shares = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    # Where episodes end in one way only, there is nothing to tell.
    if len(shares) > 1:
        texts = [f"{name.replace('_', ' ')} {format_percent(share)}" for name, share in shares.items()]
        yield Headline("Outcomes", ", ".join(texts), note)


def share_bounds(metrics: Mapping[str, float], key: str) -> str:
    """Return the 95 % interval of a share of an evaluation's episodes, to follow its note; else nothing."""
    found = share_interval(metrics, key)
    if found is None:
        return ""
    episodes = round(metrics["eval/episodes"])
    return f", 95 % {format_number(100 * found.lo)} to {format_percent(found.hi)} of {episodes} episodes"


def _spread(metrics: Mapping[str, float]) -> str:
    if "eval/return_std" not in metrics:
        return ""
    return f", std {format_number(metrics['eval/return_std'])}"


def _speed(metrics: Mapping[str, float]) -> Iterator[Headline]:
    """Yield throughput, wall time and the share of the physics engine."""
    if "factory/tokens_per_s" in metrics:
        # Tokens count live worlds only, so the two speeds may differ.
        env_steps = ""
        if "factory/env_steps_per_s" in metrics:
            env_steps = f"{format_si(metrics['factory/env_steps_per_s'])} env steps/s"
        speed = format_metric(metric("factory/tokens_per_s"), metrics["factory/tokens_per_s"])
        yield Headline("Throughput", speed, env_steps)
    # Training only: start-up and later stages are not in it.
    wall_s = metrics.get("time/wall_s", 0.0)
    if wall_s > 0.0:
        note = ""
        if "factory/env_steps" in metrics:
            note = f"{format_si(metrics['factory/env_steps'])} env steps"
        yield Headline("Wall time", format_metric(metric("time/wall_s"), wall_s), note)
        if metrics.get("time/physics_s"):
            share = format_percent(metrics["time/physics_s"] / wall_s)
            yield Headline("Physics share", share, "of the wall time")


def _energy(metrics: Mapping[str, float], tier: str) -> Iterator[Headline]:
    """Yield the total and the energy of a token, each with tier and interval."""
    total_j = metrics.get("energy/total_j", math.nan)
    if math.isfinite(total_j):
        value, note = energy_text(total_j / J_PER_WH, metrics, tier=tier, unit="Wh")
        yield Headline(metric("energy/total_j").label, value, f"{note}; {format_si(total_j, 'J')}")
    if "factory/joules_per_token" in metrics:
        joules = metrics["factory/joules_per_token"]
        yield Headline("Energy per token", *energy_text(joules, metrics, tier=tier, unit="J/token"))


def _site(metrics: Mapping[str, float], tier: str) -> Iterator[Headline]:
    """Yield cost and carbon: joules times assumptions about the site, with the same relative interval."""
    for key, per_mtoken in (
        ("factory/usd", "factory/usd_per_mtoken"),
        ("factory/gco2e", "factory/gco2e_per_mtoken"),
    ):
        if key not in metrics:
            continue
        known = metric(key)
        # A run without a joule has neither cost nor carbon, and no interval of them.
        per_joule = metrics[key] / (metrics.get("energy/total_j") or math.nan)
        bounds = [metrics.get(f"energy/total_j_{side}", math.nan) * per_joule for side in ("lo", "hi")]
        interval = " to ".join(map(format_plain, bounds))
        # A price inherits the uncertainty of the joules behind it.
        note = f"{tier or 'tier unknown'}, {interval}"
        if per_mtoken in metrics:
            note += f"; {format_plain(metrics[per_mtoken])} per million tokens"
        yield Headline(known.label, format_metric(known, metrics[key]), f"{note}; assumes energy.site")


def older_policy_note(video: Path, metrics: Mapping[str, float]) -> str:
    """Return a note if the policy in a video `policy_<step>.mp4` is older than the run, else an empty text.

    A resumed run may have gone on without recording another one.
    """
    digits = video.stem.rpartition("_")[2]
    if not digits.isdecimal():
        return ""
    step = int(digits)
    if step >= metrics.get("factory/env_steps", step):
        return ""
    return f"an older policy, of step {step:,}"
