"""Throughput of a training job, level by level, for several numbers of worlds.

The levels are nested: `raw` is the engine alone, `env` is `env.step`, `policy` collects rollouts, `learn`
also updates the policy. In a round all of them start from one saved state with one set of random draws; so
they simulate the same steps, bit for bit on a CPU, and the time between two levels is that of the code
between them.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psutil
import torch

from factory.benchmark.harness import LEVELS, Rig, Stretch
from factory.config import TrainConfig
from factory.energy import kpi
from factory.energy.meter import Meter
from factory.energy.types import Tier

Progress = Callable[[int, str], None]
"""Is told a number of worlds, and what is done with them now."""

_SETTLE_STEPS = 50
"""Control steps before the first round, so that not all worlds are at the start of an episode."""


@dataclass(kw_only=True)
class Level:
    """Speed of one level, in control steps summed over worlds.

    None where there is no engine to step alone.
    """

    steps_per_s: float | None
    """Median over the rounds."""
    spread: float | None
    """Difference of the fastest and the slowest round, over the median."""
    ratio_to_raw: float | None
    """Median over the rounds of this level's speed over the engine's in the same round."""
    cold_steps_per_s: float | None
    """The level within the first rollout and update after building."""
    samples_steps_per_s: list[float]
    """One figure a round."""


@dataclass(kw_only=True)
class Iteration:
    """Mean time of an iteration in a stretch of training without a break; the parts sum to `wall_s`."""

    wall_s: float
    physics_s: float | None
    """Inside the engine; None, and in `env_s`, where the environment does not show it."""
    env_s: float
    """In the environment around the engine."""
    infer_s: float
    learn_s: float
    rest_s: float
    """Filling the rollout, counting episodes, reading figures."""


@dataclass(kw_only=True)
class Energy:
    """Energy of the same stretch over its control tokens; joules are None where nothing is metered."""

    joules_per_token: float | None
    joules_per_token_lo: float | None
    joules_per_token_hi: float | None
    tier: str
    boundary: str
    cpu_s_per_token: float
    token_spec: str
    """Hash of what a token is; figures per token compare where it is equal."""
    tokens: int
    wall_s: float
    explanation: list[str]
    """The energy source, and the reason for it."""


@dataclass(kw_only=True)
class Row:
    """Results with one number of environments."""

    num_envs: int
    num_steps: int
    """Control steps of a rollout."""
    levels: dict[str, Level]
    """By name, see `LEVELS`."""
    tokens_per_step: float
    """Control tokens in a control step of a world: 1 unless steps are spent on resets."""
    tokens_per_s: float
    """Control tokens a second of level `learn`."""
    iteration: Iteration
    energy: Energy
    build_s: float
    """Time to build environment, policy and learner."""
    rss_bytes: int
    """Resident memory of the process at the end of the stretch of training."""
    cuda_peak_bytes: int | None
    """Most that torch held on the GPU in that stretch; what the engine allocates by itself is not in it."""


def bench(
    cfg: TrainConfig,
    *,
    sizes: Sequence[int],
    seconds: float = 0.5,
    repeats: int = 5,
    progress: Progress = lambda num_envs, stage: None,
) -> list[Row]:
    """Measure the training job `cfg` with every number of worlds in `sizes`, one after another.

    Args:
        cfg: The job; its `num_envs`, `total_steps` and `tracking` play no part.
        sizes: Numbers of worlds.
        seconds: How long every level runs in a round [s]; for one rollout at least.
        repeats: Rounds.
        progress: Told before every stage.

    Raises:
        ValueError: A size does not fit the configuration, or the energy source cannot be used.
    """
    jobs = [dataclasses.replace(cfg, num_envs=size) for size in sizes]
    return [
        _measure(job, seconds=seconds, repeats=repeats, progress=partial(progress, job.num_envs))
        for job in jobs
    ]


def _measure(cfg: TrainConfig, *, seconds: float, repeats: int, progress: Callable[[str], None]) -> Row:
    """Take the cold iteration, then the rounds, then a metered stretch of training."""
    progress("first iteration")
    begin_s = time.perf_counter()
    rig = Rig.open(cfg)
    build_s = time.perf_counter() - begin_s
    cold = rig.train(rig.stopwatch(), iterations=1)
    progress("warm-up")
    rig.warm_up(_SETTLE_STEPS)
    rounds = []
    for index in range(repeats):
        progress(f"round {index + 1} of {repeats}")
        rounds.append(rig.round(seconds))
    progress("energy and phases")
    levels = _levels(rounds, cold, steps=rig.steps)
    learn_steps_per_s = statistics.median(levels["learn"].samples_steps_per_s)
    meter = Meter.from_config(cfg.energy, cfg.device)
    if cfg.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    stretch = rig.train(meter, iterations=math.ceil(seconds * repeats * learn_steps_per_s / rig.steps))
    rss_bytes = psutil.Process().memory_info().rss
    rig.env.close()
    tokens_per_step = stretch.tokens / (stretch.iterations * rig.steps)
    return Row(
        num_envs=cfg.num_envs,
        num_steps=cfg.learner.num_steps,
        levels=levels,
        tokens_per_step=tokens_per_step,
        tokens_per_s=tokens_per_step * learn_steps_per_s,
        iteration=_iteration(stretch),
        energy=_energy(stretch, meter.explanation, token_spec=rig.policy.token_spec.hash),
        build_s=build_s,
        rss_bytes=rss_bytes,
        cuda_peak_bytes=torch.cuda.max_memory_allocated() if cfg.device == "cuda" else None,
    )


def _levels(rounds: list[dict[str, float]], cold: Stretch, *, steps: int) -> dict[str, Level]:
    """Summarise every level's rounds, and place them beside the engine's and the first iteration's."""
    raw = [speeds["raw"] for speeds in rounds if "raw" in speeds]
    levels = {}
    for name, cold_s in zip(LEVELS, cold.nested_s(), strict=True):
        samples = [speeds[name] for speeds in rounds if name in speeds]
        if samples:
            median = statistics.median(samples)
        else:
            median = None
        levels[name] = Level(
            steps_per_s=median,
            spread=(max(samples) - min(samples)) / median if median else None,
            ratio_to_raw=statistics.median(x / y for x, y in zip(samples, raw, strict=True)) if raw else None,
            cold_steps_per_s=steps / cold_s if cold_s else None,
            samples_steps_per_s=samples,
        )
    return levels


def _iteration(stretch: Stretch) -> Iteration:
    reading = stretch.reading
    count = stretch.iterations
    phase_s = reading.phase_s
    return Iteration(
        wall_s=reading.wall_s / count,
        physics_s=None if stretch.physics_s is None else stretch.physics_s / count,
        env_s=(phase_s["sim"] - (stretch.physics_s or 0.0)) / count,
        infer_s=phase_s["infer"] / count,
        learn_s=phase_s["learn"] / count,
        rest_s=(reading.wall_s - phase_s["sim"] - phase_s["infer"] - phase_s["learn"]) / count,
    )


def _energy(stretch: Stretch, explanation: list[str], *, token_spec: str) -> Energy:
    reading = stretch.reading
    tokens = stretch.tokens
    is_metered = reading.tier != Tier.NONE
    if is_metered:
        per_token = reading.energy.map(partial(kpi.joules_per_token, tokens=tokens))
    else:
        per_token = None
    return Energy(
        joules_per_token=per_token.value if per_token else None,
        joules_per_token_lo=per_token.lo if per_token else None,
        joules_per_token_hi=per_token.hi if per_token else None,
        tier=reading.tier,
        boundary=reading.boundary,
        cpu_s_per_token=kpi.cpu_s_per_token(reading.cpu_s, tokens=tokens),
        token_spec=token_spec,
        tokens=tokens,
        wall_s=reading.wall_s,
        explanation=explanation,
    )
