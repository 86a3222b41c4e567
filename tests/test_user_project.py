"""A folder with its own `envs/`, `conf/` and `tests/` trains its own task, beside this project's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from user_project import COMMAND, check_run, make_project

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_project_trains_its_own_task(tmp_path: Path) -> None:
    """`python -m factory.train` in the folder, then evaluation and resuming from another one."""
    project = make_project(tmp_path / "project")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(*command: str, cwd: Path) -> str:
        whole = [sys.executable, "-m", *command]
        done = subprocess.run(whole, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("factory.train", *COMMAND, cwd=project)
    run_dir = check_run(project)

    # The run folder names the file, but only the user may let it run.
    plugin = f"plugins=[{project / 'park.py'}]"
    asked = [sys.executable, "-m", "factory.evaluate", f"run={run_dir}", "episodes=4"]
    refused = subprocess.run(asked, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert f"if you trust that, add '{plugin}'" in refused.stderr
    run("factory.evaluate", f"run={run_dir}", "episodes=4", plugin, cwd=elsewhere)
    assert (run_dir / "evaluation.json").exists()
    run("factory.train", f"resume={run_dir}", plugin, "total_steps=1024", cwd=elsewhere)
    assert (run_dir / "checkpoints" / "last").resolve().name == "1024"
    assert "project/Park-v0" in run("factory.tasks", "plugins=[park.py]", cwd=project)
