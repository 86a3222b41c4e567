"""The wheel works where the checkout is not: installed elsewhere, run from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("factory", "envs", "conf", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command without this checkout on its path; return its output, or fail with it."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    # With setuptools at hand nothing has to be downloaded for the build.
    at_hand = int(metadata.version("setuptools").partition(".")[0]) >= 77
    isolation = ["--no-build-isolation"] if at_hand else []
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "--wheel-dir", "dist", ".", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a new environment that sees the libraries of this one; return its `bin`."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    bin_dir = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(bin_dir / "python")]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    found = run(
        bin_dir / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    # A plain path: what is installed there as editable, this project perhaps, is not seen.
    (Path(found.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return bin_dir


def test_wheel_carries_code_configuration_and_robots(wheel: Path) -> None:
    """Every YAML file, robot and type marker of the checkout is in the wheel; tests and experiments are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("factory", "factory"), ("envs", "factory/envs"), ("conf", "factory/conf")):
        for pattern in ("*.py", "*.yaml", "*.xml", "py.typed"):
            found = (ROOT / folder).rglob(pattern)
            expected = {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in found}
            assert expected <= names, expected - names
    assert "factory/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"factory", "robot_factory"}


def test_installed_package_is_the_one_that_runs(scripts: Path, tmp_path: Path) -> None:
    """In another folder `factory` comes from the wheel, not from the checkout."""
    found = run(
        scripts / "python", "-c", "import factory.conf, factory.envs; print(factory.__file__)", cwd=tmp_path
    )
    assert Path(found.strip()).is_relative_to(scripts.parent)


def test_configuration_is_found_from_another_folder(scripts: Path, tmp_path: Path) -> None:
    """`python -m factory.train --cfg job` composes with the configuration inside the package."""
    shown = run(scripts / "python", "-m", "factory.train", "--cfg", "job", "experiment=smoke", cwd=tmp_path)
    assert "name: cartpole_swingup" in shown
    assert not list(tmp_path.iterdir())


def test_console_script_prints_the_help(scripts: Path, tmp_path: Path) -> None:
    """`factory-train --help` lists the choices, those of the installed package."""
    shown = run(scripts / "factory-train", "--help", cwd=tmp_path)
    assert {"cartpole_swingup", "quadruped_velocity"} <= set(shown.split())
    assert "factory-evaluate" in {path.name for path in scripts.iterdir()}


def test_smoke_run_from_another_folder(scripts: Path, tmp_path: Path) -> None:
    """The installed line trains, evaluates, films, exports and reports, and `factory-evaluate` finds the run."""
    run(
        scripts / "factory-train",
        "experiment=smoke",
        "num_envs=16",
        "total_steps=2000",
        "tracking=jsonl",
        "task.max_episode_steps=40",
        "runtime.eval_episodes=4",
        "runtime.video_s=0.2",
        cwd=tmp_path,
    )
    (summary,) = tmp_path.glob("outputs/cartpole_swingup/*/summary.json")
    content = json.loads(summary.read_text())
    assert content["status"] == "finished"
    assert content["metrics"]["factory/env_steps"] >= 2000
    for name in ("report.html", "export/policy.pt2", "videos/filmstrip.png", "checkpoints/last/state.json"):
        assert (summary.parent / name).exists(), name
    run(scripts / "factory-evaluate", "run=last", "episodes=4", cwd=tmp_path)
    assert (summary.parent / "evaluation.json").exists()
