"""Joules, thresholds and intervals in the summary of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training_runs import CARTPOLE, FILES_ONLY, ROLLOUT, newest_run, summary_of

pytestmark = pytest.mark.slow


def test_figures_without_a_meter_have_no_joules(command_line: Callable[..., None], tmp_path: Path) -> None:
    """With `energy=null tracking=null` nothing is invented: no joules, and seconds all the same."""
    command_line(*CARTPOLE, "energy=null", "tracking=null", f"total_steps={ROLLOUT}")
    summary = summary_of(newest_run(tmp_path))
    figures = summary["metrics"]
    assert summary["status"] == "finished"
    assert summary["mlflow_run_id"] is None
    assert not [key for key in figures if key.startswith("energy/") or "joule" in key]
    assert figures["time/wall_s"] > 0
    assert figures["factory/tokens_total"] == ROLLOUT


def test_run_that_reaches_the_threshold_says_when_and_passes_the_gate(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    """Joules and seconds stay those of the first iteration that got there; the evaluation makes the tokens
    good.
    """
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={4 * ROLLOUT}", "task.return_threshold=-1000")
    run_dir = newest_run(tmp_path)
    rows = [json.loads(line)["metrics"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "train/return_mean" in row)
    figures, tags = rows[-1], summary_of(run_dir)["tags"]
    assert figures["factory/joules_to_threshold"] == first["energy/total_j"] < figures["energy/total_j"]
    assert figures["factory/seconds_to_threshold"] == first["time/wall_s"]
    assert tags["threshold.reached"] == "true"
    assert figures["factory/tokens_good"] == figures["factory/tokens_total"] == 4 * ROLLOUT


def test_single_episode_passes_no_gate(
    command_line: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without an interval there is no lower bound to hold against the threshold, and nothing is made up for
    it.
    """
    from factory import evaluate

    command_line(
        *CARTPOLE,
        FILES_ONLY,
        f"total_steps={ROLLOUT}",
        "task.return_threshold=-1000",
        "runtime.eval_episodes=1",
    )
    run_dir = newest_run(tmp_path)
    figures = summary_of(run_dir)["metrics"]
    assert figures["eval/return_mean"] > -1000 and figures["factory/tokens_good"] == 0
    monkeypatch.setattr(sys, "argv", ["factory-evaluate", f"run={run_dir}", "episodes=1"])
    evaluate.main()
    assert "(a single episode: no interval)" in capsys.readouterr().out
    found = json.loads((run_dir / "evaluation.json").read_text())["metrics"]
    assert not {"eval/return_std", "eval/return_ci95"} & (found.keys() | figures.keys())


def test_idle_power_gives_a_net_figure_beside_the_gross_one(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    """With `energy.idle_s` the run has both figures, and the idle power it took off, with intervals."""
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}", "energy.idle_s=0.1")
    summary = summary_of(newest_run(tmp_path))
    figures, tags = summary["metrics"], summary["tags"]
    assert figures["factory/net_joules_per_token"] < figures["factory/joules_per_token"]
    assert " W [" in tags["energy.idle_power"] and " J/token [" in tags["energy.net_joules_per_token"]
