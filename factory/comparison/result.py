"""A comparison: groups, their figures, and what has to be said about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.comparison.bootstrap import RESAMPLES
from factory.comparison.figures import FIGURES, Contrast, Estimate, Threshold, contrast, estimate, reach
from factory.comparison.groups import COMPARABLE_TAGS, Group, check_all_comparable, group_runs
from factory.comparison.runs import ComparedRun


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Groups of runs side by side."""

    groups: list[Group]
    estimates: list[dict[str, Estimate]]
    """By group, then by metric key; figures that no run of the group has are absent."""
    thresholds: list[Threshold | None]
    """By group."""
    contrasts: dict[str, Contrast]
    """The second group against the first by metric key; empty unless there are exactly two."""
    notes: list[str]
    """What a reader has to know before believing a figure."""

    @property
    def tier(self) -> str:
        """Energy tiers of the groups."""
        return ", ".join(sorted({group.tier for group in self.groups}))

    @property
    def return_key(self) -> str:
        """Key of the return on the charts: of the evaluation if every run has one, else of training."""
        runs = [run for group in self.groups for run in group.runs]
        evaluated = all("eval/return_mean" in run.metrics for run in runs)
        return "eval/return_mean" if evaluated else "train/return_mean"

    def as_plain(self) -> dict[str, Any]:
        """Return everything as plain containers, for JSON."""
        groups = []
        for group, figures, threshold in zip(self.groups, self.estimates, self.thresholds, strict=True):
            tags = {tag: group.tag(tag) for tag in (*COMPARABLE_TAGS, "device", "git.commit")}
            figures_plain = {key: asdict(figure) for key, figure in figures.items()}
            runs = [
                {"place": run.place, "seed": run.seed, "status": run.status, **_values(run)}
                for run in group.runs
            ]
            groups.append(
                {"name": group.name, "seeds": group.seeds, "energy.tier": group.tier, "tags": tags}
                | {"settings": group.settings, "figures": figures_plain, "runs": runs}
                | {"threshold": asdict(threshold) if threshold else None}
            )
        against = {
            key: {"kind": _kind(found), **asdict(found.interval)} for key, found in self.contrasts.items()
        }
        method = f"mean; 95 % bootstrap interval over seeds, {RESAMPLES} resamples, widened for few seeds"
        return {"method": method, "notes": self.notes, "groups": groups, "second_against_first": against}


def _values(run: ComparedRun) -> dict[str, float]:
    return {figure.key: run.metrics[figure.key] for figure in FIGURES if figure.key in run.metrics}


def _kind(found: Contrast) -> str:
    return "difference" if found.figure.is_return else "ratio"


def compare_runs(runs: Sequence[ComparedRun], *, force: bool = False) -> Comparison:
    """Group the runs and work out every figure.

    Raises:
        ValueError: The runs' figures do not compare, and `force` is not set.
    """
    check_all_comparable(runs, force=force)
    groups = group_runs(runs)
    found = [{figure.key: estimate(group, figure) for figure in FIGURES} for group in groups]
    contrasts = (
        {figure.key: contrast(groups[0], groups[1], figure) for figure in FIGURES} if len(groups) == 2 else {}
    )
    return Comparison(
        groups=groups,
        estimates=[{key: value for key, value in figures.items() if value} for figures in found],
        thresholds=[reach(group) for group in groups],
        contrasts={key: value for key, value in contrasts.items() if value},
        notes=list(_notes(groups)),
    )


def _notes(groups: Sequence[Group]) -> Iterator[str]:
    runs = [run for group in groups for run in group.runs]
    for tag in COMPARABLE_TAGS:
        if len({run.tag(tag) for run in runs}) > 1:
            yield f"Compared by force: {tag} differs between the runs, so figures do not mean the same."
    if len({run.tag("energy.tier") for run in runs}) > 1:
        yield "The runs' joules are of different tiers; a group has the worst of its runs."
    if len({run.threshold for run in runs}) > 1:
        yield "The return threshold differs between the groups, so what it took to reach it does not compare."
    if single := [group.name for group in groups if len(group.seeds) == 1]:
        yield f"One seed only, so no interval over seeds: {'; '.join(single)}."
    if repeated := [group.name for group in groups if len(group.seeds) < len(group.runs)]:
        yield f"Runs that repeat a seed count as one, by their mean: {'; '.join(repeated)}."
    if odd := [f"{run.name} ({run.status})" for run in runs if run.status != "finished"]:
        yield f"Not finished, so figures are the last known ones: {', '.join(odd)}."
    if any(run.tags.get("git.dirty", "").lower() == "true" for run in runs):
        yield (
            "Some runs come from a working tree with uncommitted changes: their commit does not repeat them."
        )
