"""Comparing runs: which belong together, what their figures are worth, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from factory import compare
from factory.comparison import bootstrap
from factory.comparison.bootstrap import difference_interval, mean_interval, ratio_interval
from factory.comparison.charts import pareto_front
from factory.comparison.learning import group_curves
from factory.comparison.result import Comparison, compare_runs
from factory.comparison.runs import select_runs
from factory.comparison.table import rows
from factory.energy.types import Tier
from factory.metric_keys import metric

TAGS = {
    "task": "cartpole_swingup",
    "device": "Some CPU",
    "git.commit": "3e1a9b7c",
    "token_spec.hash": "ac7e27bd0997",
    "energy.tier": "estimated",
    "energy.boundary": "allocation",
}
JOULES = "factory/joules_per_token"


def make_run(folder: Path, *, seed: int = 0, value: float = 100.0, **changes: Any) -> Path:
    """Write what a run leaves behind; all its figures are `value` times a constant.

    Args:
        folder: Run folder to make.
        seed: Seed of the run.
        value: Return of the run.
        changes: `config`, `metrics` and `tags` replace entries; `status` the status.
    """
    config = {"seed": seed, "output_root": str(folder), "num_envs": 64, "resume": ""}
    config |= {"task": {"name": "cartpole_swingup", "return_threshold": 500.0}, "learner": {"gamma": 0.98}}
    metrics = {
        "eval/return_mean": value,
        "train/return_mean": 0.5 * value,
        "factory/tokens_per_s": 10.0 * value,
        "factory/env_steps_per_s": 10.0 * value,
        JOULES: 1e-5 * value,
        "factory/usd_per_mtoken": 1e-6 * value,
        "energy/total_j": 200.0,
        "energy/total_j_lo": 100.0,
        "energy/total_j_hi": 600.0,
        "energy/phase/sim_j": 120.0,
        "energy/phase/learn_j": 60.0,
        "energy/phase/eval_j": 20.0,
        "time/wall_s": 30.0,
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes.get("config", {})))
    (folder / "metrics.jsonl").write_text("")
    summary = {"status": changes.get("status", "finished"), "mlflow_run_id": None}
    summary |= {"metrics": metrics | changes.get("metrics", {}), "tags": TAGS | changes.get("tags", {})}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def compare_folder(folder: Path, *, force: bool = False) -> Comparison:
    """Compare all runs under a folder."""
    return compare_runs(select_runs([str(folder)], output_root=folder), force=force)


def make_two_groups(folder: Path) -> Path:
    """Write three seeds with 64 worlds, returns 90 to 110, and three with 256, returns 190 to 210."""
    for seed in range(3):
        make_run(folder / f"few_{seed}", seed=seed, value=90.0 + 10.0 * seed)
        make_run(folder / f"many_{seed}", seed=seed, value=190.0 + 10.0 * seed, config={"num_envs": 256})
    return folder


Command = Callable[..., Path]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Return a function that runs `python -m factory.compare` in this process and gives the folder it writes
    to.
    """

    def run(*arguments: str) -> Path:
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["factory-compare", *arguments, f"out={out}"])
        compare.main()
        return out

    return run


# Intervals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 5, 10])
def test_intervals_hold_the_true_mean(count: int) -> None:
    """Of 300 samples of a known mean, 91-98 % of the intervals hold it; plain percentiles of three hold
    76 %.
    """
    samples = np.random.default_rng(count).normal(7.0, 2.0, size=(300, count))
    share = np.mean([7.0 in mean_interval(sample) for sample in samples])
    assert 0.91 < share < 0.98


def test_difference_and_ratio_hold_the_truth() -> None:
    """Two groups of four: the true difference 2 and the true ratio 1.2 are within at least 91 % of the
    intervals.
    """
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(10.0, 1.0, 4), rng.normal(12.0, 1.0, 4)) for _ in range(200)]
    assert np.mean([2.0 in difference_interval(*pair) for pair in pairs]) > 0.91
    assert np.mean([1.2 in ratio_interval(*pair) for pair in pairs]) > 0.91


def test_quantiles_of_student() -> None:
    """Table and expansion agree with the textbook."""
    known = {1: 12.706, 2: 4.303, 9: 2.262, 10: 2.228, 20: 2.086, 60: 2.000}
    assert {n: bootstrap.student_t(n) for n in known} == pytest.approx(known, abs=0.004)


def test_the_same_seeds_give_the_same_interval() -> None:
    """The resampling has a seed of its own."""
    assert mean_interval([1.0, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0])


def test_a_ratio_to_a_mean_that_may_be_zero_has_no_upper_bound() -> None:
    """A seed at zero leaves the ratio open upwards; a mean of zero leaves no ratio."""
    assert ratio_interval([0.0, 10.0], [1.0, 1.1]).hi == np.inf
    assert np.isnan(ratio_interval([0.0, 0.0], [1.0, 1.1]).value)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5, 10])
def test_intervals_of_what_cannot_be_negative_hold_the_true_mean(count: int) -> None:
    """The logarithmic scale holds the mean at least as often as the linear one, and never reaches zero."""
    samples = np.random.default_rng(count).lognormal(0.0, 0.3, size=(600, count))
    intervals = [mean_interval(sample, is_signed=False) for sample in samples]
    share = np.mean([np.exp(0.045) in interval for interval in intervals])
    linear = np.mean([np.exp(0.045) in mean_interval(sample) for sample in samples])
    assert share > 0.91 and share >= linear
    assert min(interval.lo for interval in intervals) > 0.0
    assert mean_interval([1.0, 10.0], is_signed=True).lo < 0.0


def test_a_share_of_zero_keeps_its_interval() -> None:
    """Values of zero have no logarithm: the interval ends at zero instead."""
    interval = mean_interval([0.0, 0.1, 0.2], is_signed=False)
    assert interval.lo == 0.0 and interval.hi > 0.2


# Groups -----------------------------------------------------------------------------------------------------


def test_seeds_are_grouped_and_settings_named(tmp_path: Path) -> None:
    """Runs that differ in seed and folder are one group; groups are named by what they differ in."""
    groups = compare_folder(make_two_groups(tmp_path)).groups
    assert {group.name: group.seeds for group in groups} == {
        "num_envs=64": ("0", "1", "2"),
        "num_envs=256": ("0", "1", "2"),
    }


def test_another_version_of_the_code_is_another_group(tmp_path: Path) -> None:
    """Seeds trained before and after a commit are not averaged."""
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, tags={"git.commit": "ffff"})
    assert [group.name for group in compare_folder(tmp_path).groups] == [
        "git.commit=3e1a9b7c",
        "git.commit=ffff",
    ]


def test_names_stay_short_and_tell_groups_apart(tmp_path: Path) -> None:
    """Of five differing keys three are named, unless the fourth is needed to tell two groups apart."""
    for number in range(3):
        learner = {"gamma": min(number, 1), "a": min(number, 1), "b": min(number, 1), "z": number}
        make_run(tmp_path / str(number), config={"learner": learner})
    names = [group.name for group in compare_folder(tmp_path).groups]
    assert len(set(names)) == 3
    assert names[2] == "learner.a=1, learner.b=1, learner.gamma=1, learner.z=2"


def test_a_repeated_seed_counts_once(tmp_path: Path) -> None:
    """Two runs of seed 0 and one of seed 1 are two seeds, and a note says so."""
    for name, seed, value in (("a", 0, 90.0), ("b", 0, 110.0), ("c", 1, 200.0)):
        make_run(tmp_path / name, seed=seed, value=value)
    comparison = compare_folder(tmp_path)
    found = comparison.estimates[0]["eval/return_mean"]
    assert (found.num_seeds, found.seeds.value) == (2, 150.0)
    assert any("repeat a seed" in note for note in comparison.notes)


def test_copies_kept_by_mlflow_are_left_out(tmp_path: Path) -> None:
    """Artifacts beside the runs are the same runs again."""
    make_run(tmp_path / "task" / "run")
    make_run(tmp_path / "mlartifacts" / "task" / "0123" / "artifacts")
    assert len(select_runs([str(tmp_path)], output_root=tmp_path)) == 1


# Figures ----------------------------------------------------------------------------------------------------


def test_figures_of_known_runs(tmp_path: Path) -> None:
    """Means over seeds, in order of seeds, with the interval around them."""
    figures = compare_folder(make_two_groups(tmp_path)).estimates
    assert [found["eval/return_mean"].seeds.value for found in figures] == [100.0, 200.0]
    interval = figures[0]["factory/tokens_per_s"].seeds
    assert interval.value == 1000.0
    assert 700.0 < interval.lo < 900.0 and 1100.0 < interval.hi < 1300.0


def test_the_energy_source_errs_alike_in_every_seed(tmp_path: Path) -> None:
    """Bounds at half and three times the total stay that wide whatever the number of seeds, and join the
    seeds'.
    """
    found = compare_folder(make_two_groups(tmp_path)).estimates[0][JOULES]
    assert (found.source.lo, found.source.hi) == pytest.approx((0.5e-3, 3e-3))
    assert found.both.lo == pytest.approx(0.5 * found.seeds.lo)
    assert found.both.hi == pytest.approx(3.0 * found.seeds.hi)


def test_cost_is_as_sure_as_the_joules_behind_it(tmp_path: Path) -> None:
    """The price of a million tokens has the source's bounds and the tier, like the joules it is made of."""
    comparison = compare_folder(make_two_groups(tmp_path))
    found = comparison.estimates[0]["factory/usd_per_mtoken"]
    assert (found.source.lo, found.source.hi) == pytest.approx((0.5e-4, 3e-4))
    row = next(row for row in rows(comparison) if row.label == "Electricity per M tokens")
    assert row.cells[0].value == "0.000100 USD"
    assert "estimated, with the energy source's error" in row.cells[0].note


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    """A single run says so in the table and in the notes, and keeps its source's bounds."""
    make_run(tmp_path / "only")
    comparison = compare_folder(tmp_path)
    cells = {row.label: row.cells[0] for row in rows(comparison)}
    assert cells["Return, evaluation"] == ("100", "1 seed: no interval")
    assert (
        cells["Energy per token"].note
        == "1 seed: no interval; estimated, with the energy source's error [0.5, 3]"
    )
    assert any("One seed only" in note for note in comparison.notes)


def test_runs_that_never_got_there_are_censored(tmp_path: Path) -> None:
    """Two of three reached: the median is the slower of the two, as the third took longer than its 30 s."""
    for seed, spent in ((0, 10.0), (1, 20.0)):
        reached = {"factory/seconds_to_threshold": spent, "factory/joules_to_threshold": 10.0 * spent}
        make_run(tmp_path / str(seed), seed=seed, metrics=reached)
    make_run(tmp_path / "2", seed=2)
    found = compare_folder(tmp_path).thresholds[0]
    assert (found.reached, found.runs) == (2, 3)
    assert (found.seconds.median, found.seconds.is_bound) == (20.0, False)
    assert (found.joules.median, found.joules.source.lo, found.joules.source.hi) == pytest.approx(
        (200.0, 100.0, 600.0)
    )


def test_a_median_nobody_reached_is_a_bound(tmp_path: Path) -> None:
    """One of three reached: the median is at least what training spent, evaluation left out."""
    for seed in range(2):
        make_run(tmp_path / str(seed), seed=seed)
    reached = {"factory/seconds_to_threshold": 5.0, "factory/joules_to_threshold": 50.0}
    make_run(tmp_path / "2", seed=2, metrics=reached)
    comparison = compare_folder(tmp_path)
    found = comparison.thresholds[0]
    assert (found.seconds.median, found.joules.median) == (30.0, 180.0)
    cells = {row.label: row.cells[0] for row in rows(comparison)}
    assert cells["Time to get there"] == (">= 30.0 s", "median, 2 censored")
    assert cells["Energy to get there"].value == ">= 180 J"


def test_two_groups_are_contrasted(tmp_path: Path) -> None:
    """Returns by their difference, rates and joules by their ratio; both are clear here."""
    found = compare_folder(make_two_groups(tmp_path)).contrasts
    assert found["eval/return_mean"].interval.value == 100.0
    assert found["factory/tokens_per_s"].interval.value == pytest.approx(2.0)
    assert found["eval/return_mean"].is_clear and found[JOULES].is_clear and found[JOULES].is_source_shared


def test_equal_groups_show_no_difference(tmp_path: Path) -> None:
    """Groups with the same figures are not said to differ."""
    for seed in range(3):
        for worlds in (64, 256):
            make_run(
                tmp_path / f"{worlds}_{seed}",
                seed=seed,
                value=90.0 + 10.0 * seed,
                config={"num_envs": worlds},
            )
    assert not any(found.is_clear for found in compare_folder(tmp_path).contrasts.values())


def test_errors_of_different_energy_sources_do_not_cancel(tmp_path: Path) -> None:
    """Joules of a counter against estimated ones: the ratio takes in both sources' bounds."""
    for seed in range(3):
        make_run(tmp_path / f"a{seed}", seed=seed)
        tags = {"energy.tier": "measured"}
        make_run(tmp_path / f"b{seed}", seed=seed, value=200.0, tags=tags, config={"num_envs": 256})
    comparison = compare_folder(tmp_path)
    found = comparison.contrasts[JOULES]
    assert not found.is_source_shared
    assert (found.interval.lo, found.interval.hi) == pytest.approx((2.0 / 6.0, 2.0 * 6.0))
    assert any("different tiers" in note for note in comparison.notes)


def test_a_group_has_the_worst_tier_of_its_runs(tmp_path: Path) -> None:
    """One estimated seed among counted ones makes the group estimated."""
    make_run(tmp_path / "a", seed=0, tags={"energy.tier": "measured"})
    make_run(tmp_path / "b", seed=1)
    assert compare_folder(tmp_path).groups[0].tier == "estimated"


def test_the_front_holds_what_nothing_beats() -> None:
    """Of a cost less is better, of a gain more; the return is better if higher."""
    points = [(1.0, 10.0), (2.0, 5.0), (3.0, 20.0), (3.0, 15.0)]
    assert pareto_front(points, is_cost=True) == [0, 2]
    assert pareto_front(points, is_cost=False) == [2]


# Command ----------------------------------------------------------------------------------------------------


class Visible(HTMLParser):
    """Text and references of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.references = "", []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag refers to."""
        self.references += [
            v for k, v in attrs if k in ("src", "href", "xlink:href") and not (v or "").startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data + " "


def test_three_seeds_print_mean_and_interval_and_draw(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed; page, picture and figures are written; the page needs no other file."""
    for seed in range(3):
        make_run(tmp_path / "sweep" / str(seed), seed=seed, value=90.0 + 10.0 * seed)
    out = command(f"run={tmp_path / 'sweep'}")
    said = capsys.readouterr().out
    figures = json.loads((out / "compare.json").read_text())["groups"][0]["metrics"]
    seeds = figures["eval/return_mean"]["seeds"]
    assert f"[{seeds['lo']:.4g}, {seeds['hi']:.4g}] over 3 seeds" in said
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = Visible(out / "compare.html")
    assert "energy per token (mJ/token, estimated; lower is better)" in page.text
    assert page.references == []


def test_learning_curves_are_means_with_a_band(tmp_path: Path) -> None:
    """Seeds logged at different steps are interpolated; the curve spans what all seeds have."""
    for seed, first in ((0, 10), (1, 20)):
        folder = make_run(tmp_path / str(seed), seed=seed)
        rows = [
            {"step": first + 10 * n, "time_unix_s": 0.0, "metrics": {"train/return_mean": 10.0 * seed + n}}
            for n in range(5)
        ]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    comparison = compare_folder(tmp_path)
    [(label, [curve])] = list(group_curves(comparison))
    assert (label, curve.num_seeds, curve.x[0], curve.x[-1]) == ("env steps", 2, 20.0, 50.0)
    # At step 20, seed 0 is at its second row and seed 1 at its first.
    assert (curve.low[0], curve.mean[0], curve.high[0]) == pytest.approx((1.0, 5.5, 10.0))


def test_the_page_shows_curves_and_escapes_text(command: Command, tmp_path: Path) -> None:
    """Learning curves are on the page and in a picture; markup in names stays text, and nothing may run."""
    evil = "<script>alert('x')</script>"
    for seed in range(2):
        changes = {"metrics": {"train/return_mean": 1.0}, "config": {"policy": {"name": f"{evil}{seed}"}}}
        folder = make_run(tmp_path / "runs" / str(seed), tags={"device": evil}, status=evil, **changes)
        rows = [
            {"step": 10 * n, "time_unix_s": 0.0, "metrics": {"train/return_mean": n, "time/wall_s": n}}
            for n in range(5)
        ]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = command(f"run={tmp_path / 'runs'}")
    source = (out / "compare.html").read_text()
    assert "Learning curves" in source and "against wall time (s)" in source.replace("</strong>", "")
    assert "<script" not in source and "&lt;script&gt;" in source
    assert "default-src 'none'" in source
    assert (out / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_totals_time_and_skill_are_rows(tmp_path: Path) -> None:
    """Success, tracking error, wall time, joules and cost of whole runs are compared."""
    skill = {"eval/success_rate": 0.5, "eval/velocity_rms_m_per_s": 0.25, "factory/usd": 0.02}
    make_run(tmp_path / "only", metrics=skill)
    cells = {row.label: row.cells[0].value for row in rows(compare_folder(tmp_path))}
    assert cells["Success rate, evaluation"] == "50 %"
    assert cells["Tracking error, evaluation"] == "0.25 m/s"
    assert cells["Wall time"] == "30 s"
    assert cells["Total energy"] == "200 J"
    assert cells["Electricity"] == "0.02 USD"


def test_outcomes_and_metrics_of_a_task_are_rows(tmp_path: Path) -> None:
    """What an evaluation found is compared: a share of one run over its episodes, of several over seeds."""
    skill = {"eval/outcome/collision": 0.25, "eval/lap_time_s": 9.5, "eval/episodes": 100.0}
    make_run(tmp_path / "first", metrics=skill)
    cells = {row.label: row.cells[0] for row in rows(compare_folder(tmp_path))}
    assert cells["Outcome collision, evaluation"].value == "25 %"
    assert cells["Outcome collision, evaluation"].note == "1 seed; [17.55, 34.3] over its 100 episodes"
    assert cells["Lap time, evaluation"].value == "9.5 s"
    make_run(tmp_path / "second", seed=1, metrics=skill | {"eval/outcome/collision": 0.75})
    cells = {row.label: row.cells[0] for row in rows(compare_folder(tmp_path))}
    assert cells["Outcome collision, evaluation"].value == "50 %"
    assert cells["Outcome collision, evaluation"].note.endswith("over 2 seeds")


def test_the_last_sweep_is_found(tmp_path: Path) -> None:
    """`last-sweep` is the newest folder that Hydra made for several jobs, wherever it is."""
    for number, name in enumerate(("old", "new")):
        sweep = tmp_path / "task" / name
        for seed in range(2):
            make_run(sweep / str(seed), seed=seed)
        (sweep / "multirun.yaml").write_text("")
        os.utime(sweep / "multirun.yaml", (number, number))
    found = select_runs(["last-sweep"], output_root=tmp_path)
    assert [Path(run.location).parent.name for run in found] == ["new", "new"]


@pytest.mark.parametrize(
    "name, meant",
    [("lst", "last"), ("last_sweep", "last-sweep"), ("runs/sweep_2026-11-2", "runs/sweep_2026-11-26")],
)
def test_a_name_that_is_nearly_right_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    """The line that refuses a name proposes the nearest one."""
    make_run(tmp_path / "runs" / "sweep_2026-11-26")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"did you mean run={meant}\\?"):
        select_runs([name], output_root=tmp_path)


def test_runs_are_named_one_by_one(command: Command, tmp_path: Path) -> None:
    """`run=` may be given several times; the same run twice is one."""
    first, second = make_run(tmp_path / "a", seed=0), make_run(tmp_path / "b", seed=1)
    out = command(f"run={first}", f"run={second}", f"run={first}")
    assert json.loads((out / "compare.json").read_text())["groups"][0]["seeds"] == ["0", "1"]


@pytest.mark.parametrize("tag", ["task", "token_spec.hash", "energy.boundary"])
def test_runs_that_do_not_compare_are_refused(
    command: Command, tmp_path: Path, tag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names what differs and the remedy, exit status 2, nothing written; `force=true` goes on with a
    note.
    """
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b", seed=1, tags={tag: "other"})
    with pytest.raises(SystemExit) as refused:
        command(f"run={tmp_path / 'runs'}")
    said = capsys.readouterr().err
    assert refused.value.code == 2 and said.count("\n") == 1
    assert said.startswith(f"error: {tag} differs") and "force=true" in said
    assert not (tmp_path / "out").exists()
    out = command(f"run={tmp_path / 'runs'}", "force=true")
    assert f"Compared by force: {tag} differs" in (out / "compare.html").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "name run folders"),
        (("run=nowhere",), "run=nowhere: no such run folder"),
        (("run=.", "query=x"), "not both"),
        (("run=.",), "holds no run"),
        (("experiment=x", "output_root=nowhere"), "no such database"),
        (("run=last-sweep",), "run=last-sweep: no sweep under"),
        (("run=.", "wrong=1"), "wrong=1: no such key; choose one of run, query"),
    ],
)
def test_mistakes_end_in_one_line(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line names the key, the value and the remedy; exit status 2."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refused:
        command(*arguments)
    said = capsys.readouterr().err
    assert refused.value.code == 2 and said.count("\n") == 1 and message in said


def test_runs_without_joules_or_evaluation_are_compared(command: Command, tmp_path: Path) -> None:
    """A killed, unmetered run leaves gaps, not an error; the charts fall back to the training return."""
    for seed in range(2):
        folder = make_run(tmp_path / "runs" / str(seed), seed=seed, status="failed")
        summary = json.loads((folder / "summary.json").read_text())
        kept = ("train/return_mean", "factory/tokens_per_s", "time/wall_s")
        summary["metrics"] = {key: summary["metrics"][key] for key in kept}
        summary["tags"]["energy.tier"] = "none"
        (folder / "summary.json").write_text(json.dumps(summary))
    page = Visible(command(f"run={tmp_path / 'runs'}") / "compare.html")
    assert "not metered" in page.text and "energy per token" not in page.text
    assert "Not finished" in page.text and metric("train/return_mean").label in page.text


@pytest.mark.parametrize("tier", [Tier.MEASURED, Tier.APPORTIONED, Tier.ESTIMATED])
def test_the_word_is_said_of_counters_only(
    command: Command, tmp_path: Path, tier: Tier, capsys: pytest.CaptureFixture[str]
) -> None:
    """Console, page and figures say measured only of runs whose tier it is."""
    for seed in range(2):
        make_run(tmp_path / "runs" / str(seed), seed=seed, tags={"energy.tier": str(tier)})
    out = command(f"run={tmp_path / 'runs'}")
    texts = [
        capsys.readouterr().out,
        *(path.read_text() for path in (out / "compare.html", out / "compare.json")),
    ]
    assert all(str(tier) in text.lower() for text in texts)
    assert any("measured" in text.lower() for text in texts) == (tier is Tier.MEASURED)


@pytest.mark.slow
def test_a_real_sweep_is_compared_from_folders_and_from_the_ledger(
    command_line: Callable[..., None], command: Command, tmp_path: Path
) -> None:
    """Two seeds, trained for real: folders and an MLflow query give the same figures."""
    command_line(
        *(
            "-m",
            "task=cartpole_swingup",
            "task.max_episode_steps=20",
            "num_envs=8",
            "seed=0,1",
            "total_steps=128",
        ),
        *(
            "learner.num_steps=8",
            "runtime.eval_episodes=4",
            "runtime.video_s=0",
            "runtime.register_model=false",
        ),
        *("energy=estimate", "tracking.system_metrics=false", "output_root=runs"),
    )
    by_folder = json.loads((command("run=runs", "output_root=runs") / "compare.json").read_text())["groups"]
    asked = ("experiment=cartpole_swingup", "query=params.num_envs = '8'", "output_root=runs")
    by_query = json.loads((command(*asked) / "compare.json").read_text())["groups"]
    assert [group["seeds"] for group in by_folder] == [["0", "1"]]
    assert by_folder[0]["energy.tier"] == by_query[0]["energy.tier"] == "estimated"
    for key, figure in by_folder[0]["metrics"].items():
        assert by_query[0]["metrics"][key]["seeds"] == pytest.approx(figure["seeds"])
