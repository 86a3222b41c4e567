"""A comparison: groups, their metrics, and remarks for the reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.comparison.bootstrap import RESAMPLES
from factory.comparison.contrast import Contrast, contrast
from factory.comparison.estimate import Estimate, compared_metrics, estimate
from factory.comparison.groups import COMPARABLE_TAGS, Group, check_all_comparable, group_runs
from factory.comparison.runs import ComparedRun
from factory.comparison.threshold import ThresholdCost, threshold_cost
from factory.metric_keys import Metric

_METHOD = (
    f"mean; 95 % bootstrap interval over seeds, {RESAMPLES} resamples, widened for few seeds, on a "
    "logarithmic scale for metrics that cannot be negative"
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Groups of runs side by side."""

    groups: list[Group]
    metrics: tuple[Metric, ...]
    """Metrics that are compared, in the order of the table."""
    estimates: list[dict[str, Estimate]]
    """By group, then by metric key; metrics that no run of the group has are absent."""
    thresholds: list[ThresholdCost | None]
    """By group."""
    contrasts: dict[str, Contrast]
    """The second group against the first by metric key; empty unless there are exactly two."""
    notes: list[str]
    """Remarks that a reader needs before believing a number."""

    @property
    def tier(self) -> str:
        """Energy tiers of the groups."""
        return ", ".join(sorted({group.tier for group in self.groups}))

    @property
    def return_key(self) -> str:
        """Key of the return on the charts: of the evaluation if every run has one, else of training."""
        # Returns of training and of evaluation do not belong on one axis.
        runs = [run for group in self.groups for run in group.runs]
        if all("eval/return_mean" in run.metrics for run in runs):
            return "eval/return_mean"
        return "train/return_mean"

    def as_plain(self) -> dict[str, Any]:
        """Return everything as plain containers, for JSON."""
        groups = []
        for group, estimates, cost in zip(self.groups, self.estimates, self.thresholds, strict=True):
            threshold = None
            if cost:
                threshold = asdict(cost)
            groups.append(
                {
                    "name": group.name,
                    "seeds": group.seeds,
                    "energy.tier": group.tier,
                    "tags": {tag: group.tag(tag) for tag in (*COMPARABLE_TAGS, "device", "git.commit")},
                    "settings": group.settings,
                    "metrics": {key: asdict(found) for key, found in estimates.items()},
                    "runs": [self._plain_run(run) for run in group.runs],
                    "threshold": threshold,
                }
            )
        # Kinds differ by metric, so every entry names its own.
        against = {
            key: {"kind": _kind(found), **asdict(found.interval)} for key, found in self.contrasts.items()
        }
        return {"method": _METHOD, "notes": self.notes, "groups": groups, "second_against_first": against}

    def _plain_run(self, run: ComparedRun) -> dict[str, Any]:
        values = {found.key: run.metrics[found.key] for found in self.metrics if found.key in run.metrics}
        return {"location": run.location, "seed": run.seed, "status": run.status, **values}


def _kind(found: Contrast) -> str:
    if found.metric.is_signed:
        return "difference"
    return "ratio"


def compare_runs(runs: Sequence[ComparedRun], *, force: bool = False) -> Comparison:
    """Group the runs and estimate every metric.

    Raises:
        ValueError: The runs' metrics do not compare, and `force` is not set.
    """
    # Before any work: refused runs leave nothing behind.
    check_all_comparable(runs, force=force)
    groups = group_runs(runs)
    metrics = compared_metrics(runs)
    estimates: list[dict[str, Estimate]] = []
    for group in groups:
        # Metrics that no run of the group has are left out, not shown as zero.
        found = {compared.key: estimate(group, compared) for compared in metrics}
        estimates.append({key: value for key, value in found.items() if value})
    contrasts: dict[str, Contrast] = {}
    # More than two would need a choice of what to compare with what.
    if len(groups) == 2:
        # With three groups or more there is no obvious pair; the table shows all side by side.
        against = {compared.key: contrast(groups[0], groups[1], compared) for compared in metrics}
        contrasts = {key: value for key, value in against.items() if value}
    return Comparison(
        groups=groups,
        metrics=metrics,
        estimates=estimates,
        thresholds=[threshold_cost(group) for group in groups],
        contrasts=contrasts,
        notes=[*_difference_notes(groups), *_seed_notes(groups), *_run_notes(groups)],
    )


def _all_runs(groups: Sequence[Group]) -> list[ComparedRun]:
    return [run for group in groups for run in group.runs]


def _difference_notes(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a note for everything that makes groups hard to compare."""
    runs = _all_runs(groups)
    for tag in COMPARABLE_TAGS:
        if len({run.tag(tag) for run in runs}) > 1:
            yield f"Compared by force: {tag} differs between the runs, so metrics have different meanings."
    if len({run.tag("energy.tier") for run in runs}) > 1:
        yield "The runs' joules are of different tiers; a group has the worst of its runs."
    if len({run.threshold for run in runs}) > 1:
        yield "The return threshold differs between the groups, so the cost of reaching it does not compare."


def _seed_notes(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a note for groups with one seed and for seeds with several runs."""
    if single := [group.name for group in groups if len(group.seeds) == 1]:
        yield f"One seed only, so no interval over seeds: {'; '.join(single)}."
    if repeated := [group.name for group in groups if len(group.seeds) < len(group.runs)]:
        yield f"Runs that repeat a seed count as one, by their mean: {'; '.join(repeated)}."


def _run_notes(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a note for runs that did not finish or that their commit does not repeat."""
    runs = _all_runs(groups)
    if odd := [f"{run.name} ({run.status})" for run in runs if run.status != "finished"]:
        yield f"Not finished, so metrics are the last known ones: {', '.join(odd)}."
    if any(run.tags.get("git.dirty", "").lower() == "true" for run in runs):
        yield (
            "Some runs come from a working tree with uncommitted changes: their commit does not repeat them."
        )
