"""The page of a comparison: one HTML file in the look of a run's report, complete in itself."""

from __future__ import annotations

from pathlib import Path

from factory.comparison import charts
from factory.comparison.result import Comparison
from factory.comparison.table import AGAINST, rows
from factory.metric_keys import metric
from factory.reporting.formatting import UNKNOWN, format_number, format_plain
from factory.reporting.html import write_html
from factory.reporting.report_notes import TIER_SENTENCES

HOW_TO_READ = (
    "Values are means over seeds with a 95 % bootstrap interval of the mean, widened for the few seeds there "
    "are, and on a logarithmic scale where a value cannot be negative. An energy source errs alike in every "
    "seed, so its error does not shrink with their number: joules carry the interval over seeds from the "
    "source's lower bound to its upper one. A run that never reached the return threshold stays in as "
    "censored: the median (Kaplan-Meier) takes its cost as a lower bound, and is itself only bounded (>=) "
    "where half of the runs never got there."
)
COST_NOTE = (
    "Small points are runs, large ones means of a setting with their 95 % intervals over seeds; no other "
    "mean beats a ringed one on both axes, and the dashed line is the Pareto front. The bars leave out the "
    "energy source's own error, taken to be alike in all points."
)
LEARNING_NOTE = (
    "Lines are means over the seeds of a setting, bands reach from the lowest seed to the highest, as far as "
    "all its seeds were trained."
)
_RUN_KEYS = (
    "eval/return_mean",
    "train/return_mean",
    "factory/tokens_per_s",
    "time/wall_s",
    "energy/total_j",
    "factory/joules_per_token",
)
_RUN_HEAD = (
    "run",
    "setting",
    "seed",
    "status",
    "tier",
    "return",
    "training",
    "tokens/s",
    "s",
    "J",
    "J/token",
)


def write_page(comparison: Comparison, path: Path, *, command: str) -> None:
    """Write the page.

    Args:
        comparison: What to show.
        path: The HTML file.
        command: Command line that made it, to be shown.
    """
    # Titles name the tasks once each, in the order given.
    count = sum(len(group.runs) for group in comparison.groups)
    tasks = ", ".join(dict.fromkeys(group.tag("task") for group in comparison.groups))
    # Names of groups are the headings of every table.
    names = [group.name for group in comparison.groups]
    head = list(names)
    if comparison.contrasts:
        head.append(AGAINST)
    # All groups have the same keys, those in which some of them differ.
    keys = comparison.groups[0].settings
    learning = charts.learning_charts(comparison)
    remarks = [
        f"Not drawn against {chart.x_label}, as the seeds have no common range: {'; '.join(chart.missing)}."
        for chart in learning
        if chart.missing
    ]
    tiers = [TIER_SENTENCES[tier] for tier in comparison.tier.split(", ") if tier in TIER_SENTENCES]
    write_html(
        path,
        "compare.html",
        title=f"Comparing {count} runs of {tasks}",
        num_settings=len(comparison.groups),
        tier=comparison.tier,
        notes=comparison.notes,
        names=names,
        head=head,
        rows=list(rows(comparison)),
        has_contrasts=bool(comparison.contrasts),
        how_to_read=" ".join([HOW_TO_READ, *tiers]),
        legend=charts.legend(comparison),
        costs=charts.to_panels(charts.cost_charts(comparison), prefix="cost"),
        cost_note=COST_NOTE,
        learning=charts.to_panels(learning, prefix="learn"),
        learning_note=" ".join([LEARNING_NOTE, *remarks]),
        differences={key: [group.settings[key] for group in comparison.groups] for key in keys},
        run_head=_RUN_HEAD,
        runs=_runs(comparison),
        return_label=metric(comparison.return_key).label,
        command=command,
    )


def _runs(comparison: Comparison) -> list[list[str]]:
    """Return one row for every run, its location first."""
    found: list[list[str]] = []
    for group in comparison.groups:
        for run in group.runs:
            # Identity first, then the metrics in the order of the heading.
            facts = [run.location, group.name, run.seed, run.status, run.tag("energy.tier")]
            found.append([*facts, *(_number(run.metrics.get(key)) for key in _RUN_KEYS)])
    return found


def _number(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    # Joules per token are small numbers, which an exponent would make hard to compare.
    if abs(value) < 0.1:
        return format_plain(value)
    return format_number(value)
