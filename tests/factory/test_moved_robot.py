"""A run with a robot of its own goes on after the robot's file was moved."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dog_files import PLAIN

from factory import evaluate
from factory.training import checkpoint

pytestmark = pytest.mark.slow

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
    """A new path is taken if the command names it; another robot is refused in one line."""
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


HAT = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def test_run_folder_carries_its_robot(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """It is evaluated and resumed elsewhere without the robot's files; the copies are checked as data."""
    dog = tmp_path / "dogs" / "mjcf" / "my_dog.xml"
    mesh = tmp_path / "dogs" / "meshes" / "hat.obj"
    for path in (dog, mesh):
        path.parent.mkdir(parents=True)
    mesh.write_text(HAT)
    asset = '<asset><mesh name="hat" file="../meshes/hat.obj" scale=".1 .1 .1"/></asset><worldbody>'
    dog.write_text(PLAIN.replace("<worldbody>", asset, 1))
    command_line(*JOB, f"robot=file:{dog}", "total_steps=32")
    (run_dir,) = tmp_path.glob("outputs/*/*")
    elsewhere = tmp_path / "elsewhere" / "run"
    shutil.copytree(run_dir, elsewhere, symlinks=True)
    shutil.rmtree(tmp_path / "dogs")
    shutil.rmtree(tmp_path / "outputs")
    monkeypatch.chdir(elsewhere.parent)

    def play() -> None:
        monkeypatch.setattr(sys, "argv", ["factory-evaluate", f"run={elsewhere}", "episodes=2"])
        evaluate.main()

    play()
    command_line(f"resume={elsewhere}", "total_steps=64")
    assert checkpoint.load(elsewhere).env_steps == 64
    assert (elsewhere / "robot" / "meshes" / "hat.obj").read_text() == HAT

    # What the folder holds is nobody's word: the copy may not reach out of it.
    copy = elsewhere / "robot" / "model" / "my_dog.xml"
    copy.write_text(copy.read_text().replace("../meshes/hat.obj", "../../../../secret.obj"))
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        play()
    (line,) = capsys.readouterr().err.splitlines()
    assert "names the file '../../../../secret.obj', outside the robot's folder" in line
