"""The operator's eyes on a run folder, whatever the pace of its iterations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.operator.run_files import RunFiles


def write(folder: Path, iterations: range, *, pace_s: float) -> None:
    """Add iterations to the metrics of a run."""
    with (folder / "metrics.jsonl").open("a") as file:
        for number in iterations:
            metrics = {
                "factory/iterations": number,
                "factory/env_steps": 100 * number,
                "time/wall_s": pace_s * number,
                "health/bad_samples": number // 10,
                "train/return_mean": float(number),
                "filler": "x" * 1000,
            }
            file.write(json.dumps({"metrics": metrics}) + "\n")


def test_hundreds_of_iterations_between_two_looks_cost_no_more_than_a_few(tmp_path: Path) -> None:
    """The newest ones are read; durations are means since the last one, and no count is lost."""
    files = RunFiles(tmp_path)
    write(tmp_path, range(1, 11), pace_s=0.5)
    files.read(1.0)
    assert [row.steps for row in files.history.rows] == [100 * number for number in range(2, 11)]
    write(tmp_path, range(11, 411), pace_s=0.5)
    files.read(2.0)
    new = [row for row in files.history.rows if row.seen_s == 2.0]
    assert len(new) < 20
    assert new[-1].steps == 41_000
    assert new[-1].num_bad == 41
    assert all(row.iteration_s == pytest.approx(0.5) for row in new)


def test_a_resumed_run_is_known_from_its_begin(tmp_path: Path) -> None:
    """Of a long file the first returns are read and the newest iterations, not all between them."""
    write(tmp_path, range(1, 2001), pace_s=0.5)
    files = RunFiles(tmp_path)
    files.read(1.0)
    assert files.history.rows[0].steps > 100_000
    means = files.history.returns.means
    assert means[0] == 5.5
    assert means == sorted(means)
    assert means[-1] > 1980.0
