"""One iteration's figures under the keys of the ledger."""

from __future__ import annotations

import math
from dataclasses import fields

import torch

from factory.collector import EpisodeStats
from factory.energy import kpi
from factory.energy.reading import MeterReading
from factory.learners.ppo import UpdateStats

_STATS = ("episodes", "return_sum", "length_sum", "success_sum", "nonfinite", "live_steps")
_LOSSES = tuple(field.name for field in fields(UpdateStats) if field.name != "processed")


def read_device(stats: EpisodeStats, update: UpdateStats) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Fetch an iteration's numbers in one transfer: episode sums, update means, reward terms."""
    scalars = [getattr(stats, name).float() for name in _STATS] + [getattr(update, name).float() for name in _LOSSES]
    values = torch.cat([torch.stack(scalars), stats.reward_terms]).tolist()
    split = len(_STATS) + len(_LOSSES)
    episode = dict(zip(_STATS, values[: len(_STATS)], strict=True))
    losses = dict(zip(_LOSSES, values[len(_STATS) : split], strict=True))
    return episode, losses, values[split:]


def episodes(sums: dict[str, float]) -> dict[str, float]:
    """Return the `train/` figures; none while no episode has ended."""
    count = sums["episodes"]
    if count == 0:
        return {}
    return {
        "train/return_mean": sums["return_sum"] / count,
        "train/episode_length_mean": sums["length_sum"] / count,
        "train/success_rate": sums["success_sum"] / count,
    }


def losses(means: dict[str, float]) -> dict[str, float]:
    """Return the `loss/` figures."""
    return {f"loss/{name}": value for name, value in means.items() if name not in ("skipped", "rolled_back")}


def energy(reading: MeterReading, tokens: int) -> dict[str, float]:
    """Return the `energy/` figures and those per token, on the run's totals so far.

    Joules per token is gross and of the whole run: everything the meter saw, over the tokens of training.
    """
    joules = {key: value for key, value in reading.metrics().items() if key.startswith("energy/")}
    rollout_j = reading.phase_j["sim"] + reading.phase_j["infer"]
    ratios = {
        "factory/joules_per_token": kpi.joules_per_token(reading.total_j, tokens=tokens),
        "factory/rollout_joules_per_token": kpi.joules_per_token(rollout_j, tokens=tokens),
        "factory/tokens_per_joule": kpi.tokens_per_joule(reading.total_j, tokens=tokens),
        "factory/cpu_s_per_token": kpi.cpu_s_per_token(reading.cpu_s, tokens=tokens),
    }
    return joules | {key: value for key, value in ratios.items() if math.isfinite(value)}


def times(reading: MeterReading, physics_s: float) -> dict[str, float]:
    """Return the `time/` figures of training; the time to start up is not in them."""
    return {
        "time/wall_s": reading.wall_s - reading.phase_s["startup"],
        "time/sim_s": reading.phase_s["sim"],
        "time/physics_s": physics_s,
        "time/infer_s": reading.phase_s["infer"],
        "time/learn_s": reading.phase_s["learn"],
    }
