"""The wheel works where the checkout is not: installed elsewhere, run from another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from user_project import COMMAND, check_run, make_project

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


def copy_sources(folder: Path, *, symlinks: bool) -> Path:
    """Copy what the package is built from, so that nothing is written into the checkout.

    Args:
        folder: where to; it must not exist.
        symlinks: keep `factory/envs` and `factory/conf` as links, as in a clone; else copy their targets.
    """
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=symlinks)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def pip(*arguments: str | Path, cwd: Path) -> None:
    """Run pip without downloading anything: a build uses the setuptools of this environment."""
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, "-m", "pip", *arguments, *offline, cwd=cwd)


def build_wheel(source: Path) -> Path:
    """Build a wheel from a folder or an sdist; return its path."""
    target = source.parent / f"wheel_of_{source.name}"
    pip("wheel", "--wheel-dir", target, source, cwd=source.parent)
    (built,) = target.glob("*.whl")
    return built


def make_environment(folder: Path, *installed: str | Path) -> Path:
    """Make an environment that sees the libraries of this one, and install into it; return its `bin`."""
    folder.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    bin_dir = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = Path(run(bin_dir / "python", "-c", show, cwd=folder).strip())
    # A plain path: what is installed there as editable, this project perhaps, is not seen.
    (purelib / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    pip("--python", bin_dir / "python", "install", *installed, cwd=folder)
    return bin_dir


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of a clone."""
    return build_wheel(copy_sources(tmp_path_factory.mktemp("build") / "clone", symlinks=True))


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a new environment; return its `bin`."""
    return make_environment(tmp_path_factory.mktemp("installed") / "environment", wheel)


def test_wheel_carries_code_configuration_and_robots(wheel: Path) -> None:
    """The wheel has every YAML file, robot and type marker of the checkout, and no test or experiment."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("factory", "factory"), ("envs", "factory/envs"), ("conf", "factory/conf")):
        for pattern in ("*.py", "*.yaml", "*.xml", "py.typed"):
            found = (ROOT / folder).rglob(pattern)
            expected = {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in found}
            assert expected <= names, expected - names
    assert "factory/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"factory", "robot_factory"}


@pytest.mark.parametrize("way", ["sdist", "copy without links"])
def test_other_ways_to_build_give_the_same_wheel(wheel: Path, tmp_path: Path, way: str) -> None:
    """A source distribution, and a copy made by `cp -rL`, hold the same files under the same names."""
    source = copy_sources(tmp_path / "source", symlinks=way == "sdist")
    if way == "sdist":
        run(sys.executable, "-c", "import setuptools; setuptools.setup()", "sdist", cwd=source)
        (source,) = (source / "dist").glob("*.tar.gz")
    files = [{i.filename: i.CRC for i in zipfile.ZipFile(w).infolist()} for w in (wheel, build_wheel(source))]
    for found in files:
        for name in [name for name in found if name.endswith("/RECORD")]:
            del found[name]
    assert files[0] == files[1]


def test_project_with_the_same_folder_names_works_with_the_wheel(scripts: Path, tmp_path: Path) -> None:
    """In a folder with its own `envs/`, `conf/` and `tests/`, the scripts train and evaluate its task."""
    project = make_project(tmp_path / "project")
    # The kernels are compiled anew; those for one thread are half of them.
    run(scripts / "factory-train", *COMMAND, "runtime.torch_threads=1", cwd=project)
    run_dir = check_run(project)
    for name in ("export/policy.pt2", "videos/filmstrip.png"):
        assert (run_dir / name).exists(), name
    run(scripts / "factory-evaluate", "run=last", "episodes=4", COMMAND[0], cwd=project)
    assert (run_dir / "evaluation.json").exists()


def test_project_with_the_same_folder_names_works_with_an_editable_install(tmp_path: Path) -> None:
    """In the same folder the module trains its task, beside a checkout that has folders of these names."""
    clone = copy_sources(tmp_path / "clone", symlinks=True)
    bin_dir = make_environment(tmp_path / "environment", "--editable", clone)
    project = make_project(tmp_path / "project")
    # Compiling the kernels in another folder again would take most of the time.
    run(bin_dir / "python", "-m", "factory.train", *COMMAND, cwd=project, FACTORY_KERNELS="off")
    check_run(project)


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
