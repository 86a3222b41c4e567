"""A run with a robot of its own goes on after the robot's file was moved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dog_files import PLAIN

JOB = (
    "task=quadruped_velocity",
    "num_envs=4",
    "learner.num_steps=8",
    "learner.num_minibatches=2",
    "task.max_episode_steps=20",
    "runtime.eval_episodes=2",
    "runtime.video_s=0",
    "tracking=jsonl",
)


def test_moved_robot_file_is_corrected_on_resume(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The new path is taken once the command names it; another robot is refused in one line."""
    Path("my_dog.xml").write_text(PLAIN)
    command_line(*JOB, "robot=file:my_dog.xml", "total_steps=32")
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move("my_dog.xml", moved / "dog.xml")
    shutil.move("outputs", moved)
    monkeypatch.chdir(moved)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        command_line("resume=last", "total_steps=64", "robot=menagerie:unitree_go1")
    assert capsys.readouterr().err.startswith("error: robot=menagerie:unitree_go1: the run to resume has")
    command_line("resume=last", "total_steps=64", f"robot=file:{moved}/dog.xml")
    (summary,) = moved.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["metrics"]["factory/env_steps"] == 64
