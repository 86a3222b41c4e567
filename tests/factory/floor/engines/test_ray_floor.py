"""A floor with real trainings on a Ray cluster that it starts for itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.slow

SHORT = ("total_steps=2000", "runtime.video_s=0", "runtime.eval_episodes=2", "tracking=jsonl")


def floor(root: Path, *arguments: str) -> str:
    """Run a command of the floor and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "factory.floor", *arguments, "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_lines_finish_and_nothing_is_left(tmp_path: Path) -> None:
    """Both trainings end well, on one core; wrappers and driver go with the floor."""
    floor(tmp_path, "submit", "experiment=smoke", "seed=0,1", *SHORT)
    floor(tmp_path, "run", "--engine", "ray", "--cores", "1")
    state = json.loads(floor(tmp_path, "status", "--json"))
    assert [line["state"] for line in state["lines"]] == ["finished", "finished"]
    assert [line["attempts"] for line in state["lines"]] == [1, 1]
    left_over = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or [])
    ]
    assert [command for command in left_over if "factory.floor." in " ".join(command)] == []
