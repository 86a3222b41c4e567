"""Throughput of a training job, level by level, for several numbers of worlds.

The levels are nested: `raw` is the engine alone, `env` is `env.step`, `policy` collects rollouts, `learn`
also updates the policy. In a round, all levels start from one saved state and repeat the same random draws.
So they simulate the same steps, bit for bit on a CPU, and the difference of two levels is the time of the
code between them.
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

from factory.benchmark.harness import LEVELS, Harness, Segment
from factory.config import TrainConfig
from factory.energy import kpi
from factory.energy.meter import Meter
from factory.energy.types import Tier

Progress = Callable[[int, str], None]
"""Callback that receives a number of worlds and the stage that begins."""

_SETTLE_STEPS = 50
"""Control steps before the first round, so that not all worlds are at the start of an episode."""


@dataclass(kw_only=True)
class Level:
    """Speed of a level, in control steps summed over worlds; None where no engine can be stepped alone."""

    steps_per_s: float | None
    """Median over the rounds."""
    spread: float | None
    """(fastest round - slowest round) / median."""
    ratio_to_raw: float | None
    """Median of this level's speed divided by the engine's speed in the same round."""
    cold_steps_per_s: float | None
    """Speed in the first rollout and update after building."""
    samples_steps_per_s: list[float]
    """Speed in each round."""


@dataclass(kw_only=True)
class Iteration:
    """Mean time of an iteration in an uninterrupted segment of training; the parts sum to `wall_s`."""

    wall_s: float
    physics_s: float | None
    """Inside the engine; None, and part of `env_s`, where the environment does not expose it."""
    env_s: float
    """In the environment around the engine."""
    infer_s: float
    learn_s: float
    rest_s: float
    """Filling the rollout, counting episodes, reading metrics."""


@dataclass(kw_only=True)
class Energy:
    """Energy of the same segment over its control tokens; joules are None where nothing is metered."""

    joules_per_token: float | None
    joules_per_token_lo: float | None
    joules_per_token_hi: float | None
    tier: str
    boundary: str
    cpu_s_per_token: float
    token_spec: str
    """Hash of the token's definition; metrics per token are comparable where it is equal."""
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
    """Resident memory of the process at the end of the segment of training."""
    cuda_peak_bytes: int | None
    """Peak memory torch held on the GPU in that segment; the engine's own allocations are not counted."""


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
        cfg: The job; `num_envs`, `total_steps` and `tracking` are ignored.
        sizes: Numbers of worlds.
        seconds: Shortest duration of every level in a round [s]; one rollout at least.
        repeats: Number of rounds.
        progress: Called before every stage.

    Raises:
        ValueError: A size does not fit the configuration, or the energy source cannot be used.
    """
    # All sizes are validated before the first one is measured, which may take minutes.
    jobs = [dataclasses.replace(cfg, num_envs=size) for size in sizes]
    return [
        _measure(job, seconds=seconds, repeats=repeats, progress=partial(progress, job.num_envs))
        for job in jobs
    ]


def _measure(cfg: TrainConfig, *, seconds: float, repeats: int, progress: Callable[[str], None]) -> Row:
    """Measure the cold iteration, then the rounds, then a metered segment of training."""
    # Cold: compilation, memory and caches are part of the first iteration that a user waits for.
    progress("first iteration")
    begin_s = time.perf_counter()
    harness = Harness.open(cfg)
    build_s = time.perf_counter() - begin_s
    cold = harness.train(harness.stopwatch(), iterations=1)

    # Warm: rounds repeat every level; their spread shows how quiet the machine is.
    progress("warm-up")
    harness.warm_up(_SETTLE_STEPS)
    rounds = []
    for index in range(repeats):
        progress(f"round {index + 1} of {repeats}")
        rounds.append(harness.measure_round(seconds))
    levels = _levels(rounds, cold, steps=harness.steps)
    learn_steps_per_s = statistics.median(levels["learn"].samples_steps_per_s)

    # Energy needs uninterrupted training, about as long as one level took in all rounds together.
    progress("energy and phases")
    iterations = math.ceil(seconds * repeats * learn_steps_per_s / harness.steps)
    meter = Meter.from_config(cfg.energy, cfg.device)
    on_gpu = cfg.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    segment = harness.train(meter, iterations=iterations)
    cuda_peak_bytes = None
    if on_gpu:
        cuda_peak_bytes = torch.cuda.max_memory_allocated()
    rss_bytes = psutil.Process().memory_info().rss
    harness.env.close()

    # Steps that only reset a world produce no token, so there can be fewer tokens than steps.
    tokens_per_step = segment.tokens / (segment.iterations * harness.steps)
    return Row(
        num_envs=cfg.num_envs,
        num_steps=cfg.learner.num_steps,
        levels=levels,
        tokens_per_step=tokens_per_step,
        tokens_per_s=tokens_per_step * learn_steps_per_s,
        iteration=_iteration(segment),
        energy=_energy(segment, meter.explanation, token_spec=harness.policy.token_spec.hash),
        build_s=build_s,
        rss_bytes=rss_bytes,
        cuda_peak_bytes=cuda_peak_bytes,
    )


def _levels(rounds: list[dict[str, float]], cold: Segment, *, steps: int) -> dict[str, Level]:
    """Summarise the rounds of every level, with the ratio to the engine and the first iteration's speed."""
    raw = [speeds["raw"] for speeds in rounds if "raw" in speeds]
    levels = {}
    for name, cold_s in zip(LEVELS, cold.nested_s(), strict=True):
        samples = [speeds[name] for speeds in rounds if name in speeds]
        level = Level(
            steps_per_s=None,
            spread=None,
            ratio_to_raw=None,
            cold_steps_per_s=None,
            samples_steps_per_s=samples,
        )
        if samples:
            level.steps_per_s = statistics.median(samples)
            level.spread = (max(samples) - min(samples)) / level.steps_per_s
        if raw:
            # Ratios within a round: whatever slowed the machine then slowed both levels.
            level.ratio_to_raw = statistics.median(x / y for x, y in zip(samples, raw, strict=True))
        if cold_s:
            level.cold_steps_per_s = steps / cold_s
        levels[name] = level
    return levels


def _iteration(segment: Segment) -> Iteration:
    reading = segment.reading
    count = segment.iterations
    phase_s = reading.phase_s
    # The engine runs inside the phase `sim`: env = sim - physics.
    env_s = phase_s["sim"]
    physics_s = None
    if segment.physics_s is not None:
        env_s -= segment.physics_s
        physics_s = segment.physics_s / count
    rest_s = reading.wall_s - phase_s["sim"] - phase_s["infer"] - phase_s["learn"]
    return Iteration(
        wall_s=reading.wall_s / count,
        physics_s=physics_s,
        env_s=env_s / count,
        infer_s=phase_s["infer"] / count,
        learn_s=phase_s["learn"] / count,
        rest_s=rest_s / count,
    )


def _energy(segment: Segment, explanation: list[str], *, token_spec: str) -> Energy:
    reading = segment.reading
    tokens = segment.tokens
    # Without a source, joules are None instead of NaN: JSON has no NaN.
    value = None
    lo = None
    hi = None
    if reading.tier != Tier.NONE:
        per_token = reading.energy.map(partial(kpi.joules_per_token, tokens=tokens))
        value = per_token.value
        lo = per_token.lo
        hi = per_token.hi
    return Energy(
        joules_per_token=value,
        joules_per_token_lo=lo,
        joules_per_token_hi=hi,
        tier=reading.tier,
        boundary=reading.boundary,
        cpu_s_per_token=kpi.cpu_s_per_token(reading.cpu_s, tokens=tokens),
        token_spec=token_spec,
        tokens=tokens,
        wall_s=reading.wall_s,
        explanation=explanation,
    )
