"""A run folder from a stranger: trained once, and copied for every test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

TINY = (
    "task=cartpole_swingup",
    "task.max_episode_steps=20",
    "num_envs=4",
    "learner.num_steps=8",
    "learner.num_minibatches=2",
    "policy.actor_hidden=[8]",
    "policy.critic_hidden=[8]",
    "runtime.eval_episodes=4",
    "runtime.video_s=0",
    "tracking=jsonl",
    "total_steps=64",
    "checkpoint_every=1",
)


def run_command(patch: pytest.MonkeyPatch, module: str, *arguments: str) -> None:
    """Run `python -m factory.<module>` in this process."""
    GlobalHydra.instance().clear()
    patch.setattr(sys, "argv", [f"factory-{module}", *arguments])
    import_module(f"factory.{module}").main()


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Return the arguments of a training that takes a second."""
    return TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_command(patch, "train", *TINY)
    (found,) = (path.parent for path in root.glob("outputs/*/*/config.yaml"))
    return found


@pytest.fixture
def stranger(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, as somebody may have sent it."""
    folder = tmp_path / "downloads" / "run"
    shutil.copytree(trained, folder, symlinks=True)
    return folder


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in an empty folder and returns status, stdout and stderr."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def run(module: str, *arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        try:
            run_command(monkeypatch, module, *arguments)
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return run
