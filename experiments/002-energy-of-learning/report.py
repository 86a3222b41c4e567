"""The README's tables and the figure, from the samples alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from factory.energy.kpi import kaplan_meier_median
from factory.reporting.formatting import format_si

COLORS, MARKERS, STYLES = ("#1f6feb", "#b3470a", "#12805c"), "osD", ("-", "--", ":")

Samples = list[dict[str, Any]]


def table(results: dict[str, Any]) -> str:
    """Return what was found as Markdown: a table for each kind of cell."""
    samples = [sample for cell in results["cells"].values() for sample in cell]
    commits = ", ".join(sorted({f"`{sample['git.commit'][:7]}`" for sample in samples}))
    note = (
        f"{results['machine']['cpu']}, {results['machine']['cpus_available']} CPUs, {results['date'][:10]}, "
        "commits "
        f"{commits}; {statistics.median(sample['busy_elsewhere'] for sample in samples):.2f} cores were "
        "busy with "
        "anything else."
    )
    return "\n".join([note, *_per_token(results), *_to_threshold(results), *_meter(results)])


def _per_token(results: dict[str, Any]) -> Iterator[str]:
    yield "\n**Per token**, HalfCheetah: medians of the rounds, lowest to highest round in brackets.\n"
    yield "| network | worlds | threads | tokens/s | CPU time per token, counted | energy per token | gauge |"
    yield "|---|---|---|---|---|---|---|"
    for samples in _cells(results, "per_token"):
        first = samples[0]
        figures = _range(samples, "tokens_per_s"), _range(samples, "cpu_s_per_token", "s")
        yield (
            f"| {first['network'].replace(',', '-')} | {first['worlds']} | {first['threads']} | "
            f"{' | '.join(figures)} "
            f"| {_range(samples, 'joules_per_token', 'J')} | {_gauge(samples, 'joules_per_token')} |"
        )


def _to_threshold(results: dict[str, Any]) -> Iterator[str]:
    yield (
        "\n**To a return**: medians over seeds, runs that gave up among them as censored (`>=`: the median "
        "is only"
    )
    yield "known to be above that), lowest to highest seed in brackets.\n"
    yield "| task, return | worlds | reached | tokens | training time | CPU time, counted | energy | gauge |"
    yield "|---|---|---|---|---|---|---|---|"
    for samples in _cells(results, "to_threshold"):
        first, reached = samples[0], sum(sample["reached"] for sample in samples)
        figures = (
            _range(samples, key, unit) for key, unit in (("tokens", ""), ("wall_s", "s"), ("cpu_s", "s"))
        )
        yield (
            f"| {first['task']}, {first['threshold']:g} | {first['worlds']} | {reached} of {len(samples)} "
            f"| {' | '.join(figures)} | {_range(samples, 'energy_j', 'J')} | {_gauge(samples, 'energy_j')} |"
        )


def _meter(results: dict[str, Any]) -> Iterator[str]:
    for found in _cells(results, "meter overhead"):
        pairs = np.array([pair for sample in found for pair in sample["pairs_s"]])
        low, middle, high = _median_with_interval(pairs[:, 0] / pairs[:, 1] - 1.0)
        own = sum(sample["meter_s"] for sample in found) / pairs[:, 0].sum()
        yield f"\n**The meter itself**, {found[0]['worlds']} worlds: {len(pairs)} iterations of"
        yield (
            f"{format_si(float(np.median(pairs)), 's')} with phases and gauges took {100 * middle:+.2f} % "
            "longer than"
        )
        yield (
            f"their neighbours without (median of pairs, 95 % interval {100 * low:+.2f} to "
            f"{100 * high:+.2f} %);"
        )
        yield f"the meter's own count of its time is {100 * own:.2f} % of them."
    if runs := results["cells"].get("meter equal runs"):
        agree = sum(one["lo"] <= other["energy_j"] <= one["hi"] for one in runs for other in runs)
        share = statistics.median(sample["meter_s"] / sample["wall_s"] for sample in runs)
        yield f"\n**Equal runs**: {len(runs)} runs of one training used {_range(runs, 'energy_j', 'J')},"
        yield f"gauge {_gauge(runs, 'energy_j')}. One's energy lies in the other's interval in"
        yield f"{agree} of {len(runs) ** 2} combinations."
        yield f"The meter's own count of its time: {100.0 * share:.2f} % of the wall time."
        yield f"Different returns among them: {len({sample['return'] for sample in runs})}."


def _median_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median within its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(np.median(values)), float(high)


def _cells(results: dict[str, Any], kind: str) -> list[Samples]:
    """Return the samples of every cell of a kind, small networks and few worlds first."""
    found = [samples for name, samples in results["cells"].items() if name.startswith(kind) and samples]
    keys = ("task", "network", "worlds", "threads")
    return sorted(
        found, key=lambda samples: [(len(str(samples[0].get(key))), samples[0].get(key, "")) for key in keys]
    )


def _range(samples: Samples, key: str, unit: str = "") -> str:
    """Return the median, with censored runs in it, and the lowest and the highest value."""
    values, reached = [sample[key] for sample in samples], [sample.get("reached", True) for sample in samples]
    is_known = kaplan_meier_median(values, is_reached=reached) < float("inf")
    median = kaplan_meier_median(values, is_reached=reached if is_known else [True] * len(values))
    low, middle, high = (format_si(value, unit) for value in (min(values), median, max(values)))
    return f"{'' if is_known else '>= '}{middle} ({low} to {high})"


def _gauge(samples: Samples, key: str) -> str:
    """Return the tier, and the gauge's bounds as multiples of the figure."""
    low, high = (statistics.median(sample[end] / sample[key] for sample in samples) for end in ("lo", "hi"))
    return f"{samples[0]['tier']}, x {low:.2f} to x {high:.2f}"


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw CPU time and energy per token over worlds, and energy to the return seed by seed."""
    canvas = Figure(figsize=(13, 4.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(canvas)
    left, middle, right = canvas.subplots(1, 3, width_ratios=(1, 1, 1.15))
    grid, runs = _cells(results, "per_token"), _cells(results, "to_threshold")
    tier, gauge = _gauge(grid[0], "joules_per_token").split(", ") if grid else ("", "")
    _lines(left, grid, "cpu_s_per_token", "CPU time per token, counted (\u00b5s)")
    _lines(middle, grid, "joules_per_token", f"Energy per token, {tier} (\u00b5J); gauge {gauge}")
    left.legend(fontsize=8, frameon=False)
    for place, samples in enumerate(runs):
        for sample in samples:
            marker, face = ("o", COLORS[0]) if sample["reached"] else ("^", "none")
            right.plot(place, 1e-3 * sample["energy_j"], marker, color=COLORS[0], markerfacecolor=face)
    labels = [f"{samples[0]['task'].replace('_', ' ')}\n{samples[0]['worlds']} worlds" for samples in runs]
    right.set_xticks(range(len(runs)), labels, fontsize=8)
    right.set_xlim(-0.5, max(len(runs), 1) - 0.5)
    right.set_title(f"Energy to the return, {tier} (kJ); triangle: gave up", fontsize=10, loc="left")
    for axes in (left, middle, right):
        axes.set_ylim(bottom=0.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dfe2e5", linewidth=0.8)
    canvas.savefig(path, dpi=150)


def _lines(axes: Axes, cells: Sequence[Samples], key: str, title: str) -> None:
    """Draw a line for each network and number of threads: medians, with the range of the rounds."""
    networks, threads, sizes = (
        sorted({samples[0][key] for samples in cells}, key=lambda value: (len(str(value)), value))
        for key in ("network", "threads", "worlds")
    )
    setting = lambda samples: (networks.index(samples[0]["network"]), threads.index(samples[0]["threads"]))  # noqa: E731
    for (color, style), chosen in groupby(sorted(cells, key=setting), key=setting):
        points = [(samples[0]["worlds"], [1e6 * sample[key] for sample in samples]) for samples in chosen]
        x = [worlds for worlds, _ in points]
        axes.vlines(
            x,
            *([end(values) for _, values in points] for end in (min, max)),
            color=COLORS[color],
            linewidth=1,
        )
        axes.plot(
            x,
            [statistics.median(values) for _, values in points],
            STYLES[style],
            marker=MARKERS[style],
            color=COLORS[color],
            label=f"{networks[color].replace(',', '-')}, threads: {threads[style]}",
        )
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("worlds")
    axes.set_title(title, fontsize=10, loc="left")
