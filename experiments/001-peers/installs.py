"""Gives every peer a Python environment of its own, and what else it needs to run offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
CHECKOUT = HERE.parents[1]


@dataclass(frozen=True, kw_only=True)
class Install:
    """How to start a worker."""

    python: Path
    folder: Path
    """Where it runs and may write."""
    paths: tuple[Path, ...]
    """What it can import beside its own packages."""


def install(name: str, cache: Path) -> Install:
    """Return how to start the worker `name`, after installing what `requirements/<name>.txt` pins.

    Raises:
        ValueError: it cannot be installed here.
    """
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True)
    if name == "ours":
        return Install(python=Path(sys.executable), folder=folder, paths=(HERE, CHECKOUT))
    python = folder / "venv" / "bin" / "python"
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    done = folder / "installed.txt"
    if not (done.is_file() and done.read_text() == wanted and python.is_file()):
        print(f"installing {name} into {folder}", file=sys.stderr)
        venv.create(folder / "venv", clear=True, with_pip=True)
        torch = ["torch"] if "torch==" in wanted else []
        for packages in (torch, ["-r", str(REQUIREMENTS / f"{name}.txt")]):
            if packages:
                _pip(python, name, packages)
        done.write_text(wanted)
    if name == "unilab":
        _furnish_unilab(folder)
    return Install(python=python, folder=folder, paths=(HERE, CHECKOUT) if name == "rsl_rl" else (HERE,))


def _pip(python: Path, name: str, packages: list[str]) -> None:
    torch = ["-c", str(REQUIREMENTS / "torch.txt")]
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", *torch, *packages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "it does not say why").splitlines()[-1]
        raise ValueError(f"{name}: pip could not install it: {reason}")


def _furnish_unilab(folder: Path) -> None:
    """Put the package where its configuration looks for it, with meshes of Menagerie that its wheel lacks.

    Raises:
        ValueError: the meshes are neither at hand nor can they be downloaded.
    """
    from factory.envs.robots.menagerie import robot_file

    package = next((folder / "venv" / "lib").glob("python*/site-packages/unilab"))
    link = folder / "src" / "unilab"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(package, link.parent))
    meshes = robot_file("unitree_go2", "go2").parent / "assets"
    shutil.copytree(meshes, package / "assets" / "robots" / "go2" / "assets", dirs_exist_ok=True)
