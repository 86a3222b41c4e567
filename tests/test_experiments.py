"""The README of an experiment says what its results say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ENERGY = Path(__file__).parents[1] / "experiments" / "002-energy-of-learning"


@pytest.fixture
def report() -> ModuleType:
    """Return the script that makes the tables of experiment 002."""
    spec = importlib.util.spec_from_file_location("energy_report", ENERGY / "report.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(cells: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return results as the experiment writes them."""
    shared = {"busy_elsewhere": 0.0, "tier": "estimated", "lo": 50.0, "hi": 300.0, "git.commit": "0123456789"}
    cells = {name: [shared | sample for sample in samples] for name, samples in cells.items()}
    machine = {"cpu": "a processor", "cpus_available": 2}
    return {"cells": cells, "machine": machine, "date": "2026-11-23T00:00:00"}


def test_readme_holds_the_tables_of_the_results(report: ModuleType) -> None:
    """Whoever changes a figure of the page has to change the results, and the other way round."""
    if not (ENERGY / "results.json").exists():
        pytest.skip("not run yet")
    page = (ENERGY / "README.md").read_text()
    assert report.table(json.loads((ENERGY / "results.json").read_text())) in page


def test_runs_that_gave_up_stay_in_the_table(report: ModuleType) -> None:
    """With one run of three that reached the return the median is only known to be above what the second
    spent.
    """
    runs = [
        {
            "task": "swing",
            "worlds": 4,
            "threshold": 9.0,
            "reached": joules == 100.0,
            "tokens": 10.0,
            "wall_s": 1.0,
            "cpu_s": 2.0,
            "energy_j": joules,
        }
        for joules in (100.0, 150.0, 200.0)
    ]
    text = report.table(results({"to_threshold task=swing worlds=4": runs}))
    assert "| swing, 9 | 4 | 1 of 3 |" in text
    assert ">= 150 J (100 J to 200 J)" in text
    assert "estimated, x 0.33 to x 2.00" in text


def test_figure_and_tables_are_made_of_samples_alone(report: ModuleType, tmp_path: Path) -> None:
    """Pairs of iterations become a ratio with an interval, equal runs are compared, and a figure is drawn."""
    tokens = {"worlds": 4, "threads": 1, "network": "8,8", "tokens_per_s": 5.0, "cpu_s_per_token": 1e-6}
    run = {"wall_s": 10.0, "cpu_s_per_token": 2.0, "return": 1.0, "meter_s": 0.02}
    pairs = [(1.01, 1.0), (1.004, 1.0), (1.0, 1.0), (1.005, 1.0), (1.006, 1.0)]
    found = results(
        {
            "per_token worlds=4 threads=1 network=8,8": [tokens | {"joules_per_token": 100.0}],
            "meter overhead worlds=4": [{"worlds": 4, "pairs_s": pairs, "meter_s": 0.01}],
            "meter equal runs": [run | {"energy_j": 100.0}, run | {"energy_j": 400.0}],
        }
    )
    text = report.table(found)
    assert "| 8-8 | 4 | 1 |" in text
    assert "4 worlds: 5 iterations of\n1.00 s" in text
    assert "took +0.50 % longer" in text
    assert "95 % interval +0.00 to +1.00 %" in text
    assert "0.20 % of the wall time" in text
    assert "interval in\n2 of 4 combinations" in text
    report.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
