"""Work of one machine as it was measured: power, speed, and the runs that passed their gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from factory.comparison.groups import COMPARABLE_TAGS
from factory.comparison.runs import ComparedRun
from factory.energy.types import Interval, Tier
from factory.energy.uncertainty import NORMAL_95, student_t
from factory.site.quantities import Z_95, CountedShare, Quantity, Ranged
from factory.validation import require

_SHOWN_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class Step:
    """A machine while a certain number of lines run on it."""

    num_lines: int
    power_w: float
    upper_w: float
    """Power by the bound on which the floor holds its budget, as in its power curves [W]."""
    tokens_per_s: float
    seconds: float
    """Time over which both were averaged [s]."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Means over the time in which a machine worked."""

    power_w: Interval
    """Power inside the meter's boundary [W], with the bounds of the energy source."""
    tokens_per_s: float
    cpu_s_per_token: float
    """CPU time [s/token]; zero if it is not on record."""
    steps: tuple[Step, ...] = ()
    """The machine by the number of its lines; empty for runs outside a floor."""
    faster_tokens_per_s_per_w: float = math.nan
    """Speed that a further watt brings to lines that run below full power; NaN if none were seen so."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run: the tokens that went into it, and whether its policy is good."""

    tokens: float
    is_good: bool
    reason: str = ""
    """Cause for which it is not."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Output of one machine, and the electricity that it took."""

    origin: str
    """Folders that it was measured in."""
    task: str
    device: str
    tier: Tier
    boundary: str
    gate: str
    """Condition under which a policy is good."""
    machine: Machine
    outcomes: tuple[Outcome, ...]
    uses_gpu: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def num_good(self) -> int:
        """Runs that passed the gate."""
        return sum(outcome.is_good for outcome in self.outcomes)

    @property
    def joules_per_token(self) -> Interval:
        """Energy of a token inside the meter's boundary [J]."""
        return self.machine.power_w.map(lambda watts: watts / self.machine.tokens_per_s)

    def quantities(self) -> list[Quantity]:
        """Return the measured inputs of a projection with their spread.

        The energy source errs once: its gain scales power wherever it enters, and joules per token with it.
        """
        return [self._meter_gain(), self._tokens_per_run(), self._good_share()]

    def _meter_gain(self) -> Ranged:
        power_w = self.machine.power_w
        # Bounds are at 95 %, ranges at 5 and 95 %: (q95)^(1.645 / 1.96) on the logarithmic scale.
        narrowed = Z_95 / NORMAL_95
        return Ranged(
            name="meter_gain",
            low=(power_w.lo / power_w.value) ** narrowed,
            typical=1.0,
            high=(power_w.hi / power_w.value) ** narrowed,
            unit="of nominal joules",
            source=f"bounds of the energy source, {self.tier}",
        )

    def _tokens_per_run(self) -> Ranged:
        tokens = [outcome.tokens for outcome in self.outcomes]
        mean = fmean(tokens)
        # Standard error of the mean times Student's t: 95 %, as far as one run alone lets that be known.
        half_width = 0.0
        if len(tokens) > 1:
            half_width = student_t(len(tokens) - 1) * stdev(tokens) / math.sqrt(len(tokens))
        # The mean of positive numbers, on a logarithmic scale so that it stays positive.
        factor = (1.0 + half_width / mean) ** (Z_95 / NORMAL_95)
        return Ranged(
            name="tokens_per_run",
            low=mean / factor,
            typical=mean,
            high=mean * factor,
            unit="tokens",
            source=f"mean over {len(tokens)} runs, good and bad",
        )

    def _good_share(self) -> CountedShare:
        return CountedShare(
            name="good_share",
            hits=self.num_good,
            trials=len(self.outcomes),
            source=f"{self.num_good} of {len(self.outcomes)} runs: {self.gate}",
        )


def from_runs(runs: Sequence[ComparedRun], *, gate: float | None) -> Workload:
    """Return the workload of runs that had the machine one after the other.

    Args:
        runs: Runs of one task; the seeds of one setting are a good sample.
        gate: Return from which a policy is good; None for the threshold of the task.

    Raises:
        ValueError: The runs do not belong together, or lack energy, tokens or a gate.
    """
    check_together(runs)
    # Sums first, then quotients: a long run counts more than a short one.
    joules = _sum(runs, "energy/total_j")
    seconds = math.fsum(_duration_s(run) for run in runs)
    tokens = _sum(runs, "factory/tokens_total")
    # The source's bounds relative to its joules hold for its mean power as well.
    relative = relative_bounds(runs)
    mean_w = joules / seconds
    cpu_s = math.fsum(
        run.metrics.get("factory/cpu_s_per_token", 0.0) * run.metrics["factory/tokens_total"] for run in runs
    )
    machine = Machine(
        power_w=relative.map(lambda share: share * mean_w),
        tokens_per_s=tokens / seconds,
        cpu_s_per_token=cpu_s / tokens,
    )
    outcomes = tuple(judge(run, gate) for run in runs)
    return Workload(
        origin=_origin(runs),
        task=runs[0].tag("task"),
        device=runs[0].tag("device"),
        tier=worst_tier(runs),
        boundary=runs[0].tag("energy.boundary"),
        gate=gate_text(runs, gate),
        machine=machine,
        outcomes=outcomes,
        uses_gpu=any(run.metrics.get("energy/gpu_j", 0.0) > 0.0 for run in runs),
        notes=tuple(notes_on(outcomes)),
    )


def _origin(runs: Sequence[ComparedRun]) -> str:
    shown = [run.location for run in runs[:_SHOWN_RUNS]]
    if len(runs) > _SHOWN_RUNS:
        shown.append(f"{len(runs) - _SHOWN_RUNS} more")
    return ", ".join(shown)


def check_together(runs: Sequence[ComparedRun]) -> None:
    """Raise ValueError unless the runs have one task, token spec and energy boundary."""
    for tag in COMPARABLE_TAGS:
        values = sorted({run.tag(tag) for run in runs})
        require(
            len(values) == 1,
            tag,
            " and ".join(values),
            "project one workload at a time; name runs that agree",
        )


def judge(run: ComparedRun, gate: float | None) -> Outcome:
    """Return whether a run's policy is good: evaluated with 95 % confidence, or in training without one.

    Raises:
        ValueError: The task has no threshold, and no gate is given.
    """
    tokens = run.metrics.get("factory/tokens_total", 0.0)
    wanted = gate
    if wanted is None:
        wanted = run.threshold
    if wanted is None:
        raise ValueError(
            f"gate=: the task {run.tag('task')} has no return threshold; give the return of a good policy,"
            " such as gate=500"
        )
    if run.status != "finished":
        return Outcome(tokens=tokens, is_good=False, reason=f"{run.status}")
    mean = run.metrics.get("eval/return_mean")
    # The lower bound, so that luck in a few episodes makes no policy good.
    if mean is not None:
        lower_bound = mean - run.metrics.get("eval/return_ci95", 0.0)
        return _outcome(tokens, lower_bound, wanted, "evaluation")
    # Without an evaluation the training's own word counts: the threshold was reached at some time.
    if gate is None and run.has_reached:
        return Outcome(tokens=tokens, is_good=True)
    return _outcome(tokens, run.metrics.get("train/return_mean", -math.inf), wanted, "training")


def _outcome(tokens: float, value: float, wanted: float, stage: str) -> Outcome:
    if value >= wanted:
        return Outcome(tokens=tokens, is_good=True)
    return Outcome(tokens=tokens, is_good=False, reason=f"return {value:.4g} in {stage}, below {wanted:g}")


def gate_text(runs: Sequence[ComparedRun], gate: float | None) -> str:
    """Return the condition for a good policy."""
    wanted = {gate}
    if gate is None:
        wanted = {run.threshold for run in runs}
    known = sorted(value for value in wanted if value is not None)
    listed = " or ".join(f"{value:g}" for value in known)
    return f"return of at least {listed} with 95 % confidence"


def relative_bounds(runs: Sequence[ComparedRun]) -> Interval:
    """Return the bounds of the energy source relative to its joules.

    Raises:
        ValueError: A run was not metered, or has no bounds on record.
    """
    if not runs:
        raise ValueError("from=: no run has the bounds of its energy on record; give runs that were metered")
    joules = _sum(runs, "energy/total_j")
    # Runs of one machine share the source's error, so bounds add up.
    return Interval(1.0, _sum(runs, "energy/total_j_lo") / joules, _sum(runs, "energy/total_j_hi") / joules)


def worst_tier(runs: Sequence[ComparedRun]) -> Tier:
    """Return the least trustworthy tier of the runs; `NONE` for one that is unknown."""
    names = {run.tag("energy.tier") for run in runs}
    if not names <= set(Tier):
        return Tier.NONE
    return Tier.worst(map(Tier, names))


def _sum(runs: Sequence[ComparedRun], key: str) -> float:
    for run in runs:
        value = run.metrics.get(key, math.nan)
        if not (math.isfinite(value) and value > 0.0):
            raise ValueError(
                f"from={run.location}: {key} is missing or zero; give runs that were metered to their end"
            )
    return math.fsum(run.metrics[key] for run in runs)


def _duration_s(run: ComparedRun) -> float:
    """Return the time over which the joules of a run were metered, evaluation and video included [s]."""
    mean_w = run.metrics.get("energy/mean_power_w", math.nan)
    if not mean_w > 0.0:
        raise ValueError(
            f"from={run.location}: energy/mean_power_w is missing; give runs that were metered to their end"
        )
    return run.metrics["energy/total_j"] / mean_w


def notes_on(outcomes: Sequence[Outcome]) -> list[str]:
    """Return remarks on the runs for the reader."""
    notes: list[str] = []
    if len(outcomes) < 3:
        notes.append(f"{len(outcomes)} run(s) say little about the share of good policies; train more seeds.")
    reasons = sorted({outcome.reason for outcome in outcomes if outcome.reason})
    if reasons:
        notes.append(f"Runs that made no good policy: {'; '.join(reasons[:4])}.")
    return notes
