"""The metrics of an iteration and of a run, under their keys in the experiment tracker."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from factory.energy import kpi
from factory.energy.config import SiteConfig
from factory.energy.reading import MeterReading
from factory.energy.types import Interval, Tier
from factory.envs.core.outcomes import SUCCESS
from factory.envs.core.training_env import TrainingEnv
from factory.learners.base import COUNTS
from factory.training.collector import EpisodeStats


def read_device(
    stats: EpisodeStats, update: Mapping[str, Tensor]
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Fetch an iteration's numbers in one transfer: episode sums, results of the update, reward terms.

    Raises:
        TypeError: a learner returned something other than tensors of one value.
    """
    for name, value in update.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"learner.update: {name!r} must be a tensor of one value, not {kind}")
    scalars = [value.float() for value in (*stats.sums.values(), *update.values())]
    # One transfer waits for the device once, but every `.item()` would wait again.
    values = torch.cat([torch.stack(scalars), stats.reward_terms]).tolist()
    num_sums = len(stats.sums)
    num_scalars = len(scalars)
    episode = dict(zip(stats.sums, values[:num_sums], strict=True))
    learned = dict(zip(update, values[num_sums:num_scalars], strict=True))
    return episode, learned, values[num_scalars:]


def episodes(sums: Mapping[str, float], env: TrainingEnv) -> dict[str, float]:
    """Return the `train/` metrics; none while no episode has ended.

    Args:
        sums: over the episodes that ended, see `EpisodeStats`.
        env: knows the outcomes and the metrics of its episodes.
    """
    means: dict[str, float] = {}
    count = sums["episodes"]
    if count:
        means["train/return_mean"] = sums["return_sum"] / count
        means["train/episode_length_mean"] = sums["length_sum"] / count
    outcomes = {name: sums[f"outcome/{name}"] for name in env.outcome_names}
    if any(outcomes.values()):
        shares = env.outcome_shares(outcomes)
        # Of ends that a task does not name, the rates of success and falls say it all.
        if env.outcomes:
            means |= {f"train/outcome/{name}": share for name, share in shares.items()}
        if env.defines_success:
            means["train/success_rate"] = shares[SUCCESS]
    for name in env.episode_metrics:
        if sums[f"metric_count/{name}"]:
            means[f"train/{name}"] = sums[f"metric/{name}"] / sums[f"metric_count/{name}"]
    return means


def losses(learned: Mapping[str, float]) -> dict[str, float]:
    """Return the `loss/` metrics of an update."""
    return {f"loss/{name}": value for name, value in learned.items() if name not in COUNTS}


def energy(reading: MeterReading, tokens: int) -> dict[str, float]:
    """Return the `energy/` metrics and those per token, of the run so far.

    Joules per token is gross and covers the whole run: all metered energy over the tokens of training.
    """
    joules = {key: value for key, value in reading.metrics().items() if key.startswith("energy/")}
    # Simulation and inference alone: the cost of acting, without that of learning.
    rollout_j = reading.phase_j["sim"] + reading.phase_j["infer"]
    ratios = {
        "factory/joules_per_token": kpi.joules_per_token(reading.total_j, tokens=tokens),
        "factory/rollout_joules_per_token": kpi.joules_per_token(rollout_j, tokens=tokens),
        "factory/tokens_per_joule": kpi.tokens_per_joule(reading.total_j, tokens=tokens),
        "factory/cpu_s_per_token": kpi.cpu_s_per_token(reading.cpu_s, tokens=tokens),
    }
    # Without a meter the ratios are NaN, and are left out instead of being logged as zero.
    return joules | {key: value for key, value in ratios.items() if math.isfinite(value)}


def energy_tags(reading: MeterReading) -> dict[str, str]:
    """Return the origin of the joules: tiers of the total, of its split into phases and of each component."""
    tags = {
        "energy.tier": reading.tier,
        "energy.boundary": reading.boundary,
        "energy.phase_tier": reading.phase_tier,
        "energy.components": ", ".join(
            f"{name} {tier}" for name, tier in sorted(reading.component_tier.items())
        ),
    }
    if reading.is_shared:
        tags["energy.shared"] = "true"
    if reading.lost_s > 0.0:
        tags["energy.lost_s"] = f"{reading.lost_s:.3g}"
    return {key: value for key, value in tags.items() if value}


def site(total_j: float, joules_per_token: float, cfg: SiteConfig) -> dict[str, float]:
    """Return electricity and carbon, in total and per million tokens, as `energy.site` assumes.

    NaN gives none.
    """
    price = {"pue": cfg.pue, "price_usd_per_kwh": cfg.price_usd_per_kwh}
    intensity = {"pue": cfg.pue, "carbon_g_per_kwh": cfg.carbon_g_per_kwh}
    costs = {
        "factory/usd": kpi.usd_electricity(total_j, **price),
        "factory/gco2e": kpi.gco2e(total_j, **intensity),
        "factory/usd_per_mtoken": kpi.usd_electricity_per_mtoken(joules_per_token, **price),
        "factory/gco2e_per_mtoken": kpi.gco2e_per_mtoken(joules_per_token, **intensity),
    }
    return {key: value for key, value in costs.items() if math.isfinite(value)}


def steady(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return speed and energy per token of training without its warm-up; nothing if it never settled.

    Args:
        rows: The totals at the end of every iteration.
    """
    # Speed of each iteration; compilation and caches make the first ones slow.
    rates = [
        _increase(pair, "factory/tokens_total") / _increase(pair, "time/wall_s") for pair in pairwise(rows)
    ]
    start = kpi.steady_start(rates)
    if start is None:
        return {}
    # Differences of totals between the first steady iteration and the last.
    part = rows[start], rows[-1]
    tokens = _increase(part, "factory/tokens_total")
    figures = {"factory/steady_tokens_per_s": tokens / _increase(part, "time/wall_s")}
    if "energy/total_j" in rows[start]:
        joules = _increase(part, "energy/total_j")
        figures["factory/steady_joules_per_token"] = kpi.joules_per_token(joules, tokens=round(tokens))
    return figures


def net(
    reading: MeterReading, tokens: int, idle: Interval | None, others: Sequence[MeterReading] = ()
) -> tuple[dict[str, float], dict[str, str]]:
    """Return energy per token without the idle energy, as a metric, and its interval as tags.

    Args:
        reading: Totals of the run.
        tokens: Tokens of training.
        idle: Power of this host before the run [W]; None gives nothing.
        others: Readings of other processes; if another host metered joules, its idle power is unknown, and
            nothing is returned.
    """
    if idle is None or any(other.tier != Tier.NONE for other in others):
        return {}, {}
    joules = kpi.net_energy(reading.energy, idle_w=idle, wall_s=reading.wall_s)
    figure = joules.map(lambda net_j: kpi.joules_per_token(net_j, tokens=tokens))
    tags = {
        "energy.idle_power": f"{idle.value:.4g} W [{idle.lo:.4g}, {idle.hi:.4g}]",
        "energy.net_joules_per_token": f"{figure.value:.4g} J/token [{figure.lo:.4g}, {figure.hi:.4g}]",
    }
    return {"factory/net_joules_per_token": figure.value}, tags


def _increase(rows: tuple[Mapping[str, float], Mapping[str, float]], key: str) -> float:
    return rows[1][key] - rows[0][key]


def times(reading: MeterReading) -> dict[str, float]:
    """Return the `time/` metrics of training, without the start-up and pauses."""
    return {
        "time/wall_s": reading.wall_s - reading.phase_s["startup"] - reading.phase_s["idle"],
        "time/sim_s": reading.phase_s["sim"],
        "time/infer_s": reading.phase_s["infer"],
        "time/learn_s": reading.phase_s["learn"],
        "time/meter_s": reading.overhead_s,
    }
