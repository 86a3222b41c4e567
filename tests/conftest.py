"""What all tests share: quiet libraries, few threads, and runs in folders of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GOMP_SPINCOUNT", "0")  # test processes share the cores: spinning threads would starve them
import factory  # noqa: F401  sets the OpenMP wait policy before torch is loaded

ROOT = Path(__file__).parents[1]


def run_training(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run `python -m factory.train` in this process, in the folder it is in."""
    from hydra.core.global_hydra import GlobalHydra

    from factory import train

    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["factory-train", *arguments])
    train.main()


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs `python -m factory.train` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_training(monkeypatch, *arguments)


@pytest.fixture(scope="module")
def shared_command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Return the same for a module's tests, which share one folder and its ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("shared"))
        yield lambda *arguments: run_training(patch, *arguments)


@pytest.fixture
def menagerie() -> Path:
    """Return the local copy of the real robots that `MENAGERIE_ROOT` names; skip where there is none."""
    folder = Path(os.environ.get("MENAGERIE_ROOT", ""))
    if not (folder / "unitree_go1").is_dir():
        pytest.skip("no local copy of MuJoCo Menagerie: set MENAGERIE_ROOT")
    return folder
