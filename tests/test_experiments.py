"""Experiments name what exists: their scripts run on machines where nobody can mend them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[1]
GPU = CHECKOUT / "experiments" / "004-gpu"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script of the GPU experiment."""
    monkeypatch.syspath_prepend(str(GPU))
    monkeypatch.delitem(sys.modules, "basics", raising=False)
    spec = importlib.util.spec_from_file_location(name, GPU / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_gpu_jobs_run_tests_that_exist_and_have_words_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test file named by a job exists, and the table can describe every cell."""
    jobs = load("parts", monkeypatch).JOBS
    words = load("report", monkeypatch)._WORDS
    cells = [cell for job in jobs.values() for cell in job.cells]
    paths = [cell.split()[1] for cell in cells if cell.startswith("check ")]
    assert paths
    assert all((CHECKOUT / path).is_file() for path in paths)
    assert {cell.split()[0] for cell in cells} == set(words)
