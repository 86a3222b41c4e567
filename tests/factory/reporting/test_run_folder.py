"""A run's folder is read as far as the run came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.reporting.run_folder import read_records, read_reward_terms, read_run


def test_repeated_iterations_count_once(tmp_path: Path) -> None:
    """After a resume from step 20, steps 30 and 40 of before are gone, and a cut-off line is skipped."""
    steps = [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0), (30, 5.0)]
    lines = [json.dumps({"step": s, "time_unix_s": t, "metrics": {}}) for s, t in steps]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, lines[0][:20]]))
    records = read_records(tmp_path / "metrics.jsonl")
    assert [(record.step, record.time_unix_s) for record in records] == [(10, 1.0), (20, 2.0), (30, 5.0)]


def test_a_cut_off_row_of_reward_terms_is_dropped(tmp_path: Path) -> None:
    """A crash while writing the table costs its last row only, whether a cell or a digit is missing."""
    for cut in ("7,8", "7,8,1e"):
        (tmp_path / "terms.csv").write_text(f"step,a,b\n1,2,\n4,5,6\n{cut}")
        terms = read_reward_terms(tmp_path / "terms.csv")
        assert terms["step"] == [1.0, 4.0]
        assert terms["a"] == [2.0, 5.0]
        assert terms["b"][1] == 6.0


def test_repeated_reward_rows_count_once(tmp_path: Path) -> None:
    """After a resume the table goes back, with or without a second header."""
    (tmp_path / "terms.csv").write_text("step,a\n10,1\n20,2\n30,3\nstep,a\n20,4\n")
    assert read_reward_terms(tmp_path / "terms.csv") == {"step": [10.0, 20.0], "a": [1.0, 4.0]}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"metrics": 3, "tags": ["x"], "versions": null}', '{"metrics": {"a": "b"}}']
)
def test_files_of_another_shape_are_like_missing_ones(tmp_path: Path, text: str) -> None:
    """A damaged or foreign summary, journal or list of overrides costs its contents, not the report."""
    (tmp_path / "summary.json").write_text(text)
    (tmp_path / "metrics.jsonl").write_text(f'{text}\n{{"step": 1, "time_unix_s": 0, "metrics": 5}}\n')
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("a: [b")
    run = read_run(tmp_path)
    assert (run.status, run.metrics, run.tags, run.overrides, run.records) == ("unknown", {}, {}, None, [])
