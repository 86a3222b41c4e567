"""A run that draws its video with OpenGL ends well where triton is installed, as torch from PyPI has it on
Linux.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from factory.envs.rendering import opengl

ROOT = Path(__file__).parents[3]
SHORT = ("num_envs=16", "total_steps=512", "learner.num_steps=16", "runtime.video_s=0.2")


@pytest.fixture(scope="module")
def triton_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder that triton is installed into; empty if it is installed already."""
    if (
        subprocess.run([sys.executable, "-c", "import triton"], capture_output=True, check=False).returncode
        == 0
    ):
        return ""
    folder = tmp_path_factory.mktemp("triton")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "triton"]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"triton cannot be installed here: {installed.stderr.strip()[-200:]}")
    return str(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch brings triton on Linux only")
@pytest.mark.skipif(opengl.working_platform() is None, reason="no OpenGL context here")
@pytest.mark.parametrize("platform", ["egl", "osmesa"])
def test_smoke_run_beside_triton(triton_folder: str, platform: str, tmp_path: Path) -> None:
    """A short smoke run with EGL or OSMesa, and export after it, leaves export, report and summary."""
    libraries = [str(ROOT), *filter(None, [triton_folder]), sysconfig.get_path("purelib")]
    environment = {**os.environ, "MUJOCO_GL": platform, "PYTHONPATH": os.pathsep.join(libraries)}
    command = [sys.executable, "-m", "factory.train", "experiment=smoke", "tracking=jsonl", *SHORT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("videos/filmstrip.png", "export/policy.pt2", "report.html", "summary.json"):
        assert list(tmp_path.rglob(name)), name
