"""Where compiled kernels are kept, and what a user hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from factory import kernels

ROOT = Path(__file__).parents[3]
PREPARE = """
import numba
from factory import kernels
kernels.prepare_passes(1)
kernels.prepare_gradient(1)
print(numba.config.CACHE_DIR)
"""


def call(program: str, **environment: str) -> str:
    """Run a program; return what it says."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


TRAINING = """
import sys, torch
from pathlib import Path
from factory.cli import single_job
from factory.train import train
job = ("task=cartpole_swingup tracking=jsonl energy=null num_envs=16 learner.num_steps=8 total_steps=512"
       " runtime.eval_episodes=2 runtime.video_s=0 task.max_episode_steps=20 runtime.torch_threads=1").split()
train(single_job([*job, f"output_root={sys.argv[1]}"]), Path(sys.argv[1]) / "run")
"""


def train(folder: Path, **environment: str) -> str:
    """Train in a process of its own; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(folder)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def learned(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a training left."""
    return load_file(folder / "run/checkpoints/last/policy.safetensors")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train where no kernel is compiled yet; return the folder, with the cache in it, and what was said."""
    folder = tmp_path_factory.mktemp("first")
    return folder, train(folder, NUMBA_CACHE_DIR=str(folder / "cache"))


@pytest.mark.slow
def test_kernels_are_compiled_once_and_said_so(first: tuple[Path, str]) -> None:
    """The first process says what it waits for, once; the next finds the work done, in a folder of its
    own.
    """
    folder, said = first
    assert said.count("compiling") == 1
    cache = folder / "cache"
    assert call(PREPARE, NUMBA_CACHE_DIR=str(cache)) == f"{cache}\n"
    (version,) = cache.iterdir()
    assert len(version.name) == 16


@pytest.mark.slow
@pytest.mark.parametrize("switch", [{"FACTORY_KERNELS": "off"}, {"NUMBA_DISABLE_JIT": "1"}], ids=str)
def test_torch_learns_the_same_without_kernels(
    switch: dict[str, str], first: tuple[Path, str], tmp_path: Path
) -> None:
    """The off-switch changes rounding only: after four updates all weights agree to 1e-6."""
    assert "compiling" not in train(tmp_path, **switch)
    without = learned(tmp_path)
    for name, value in learned(first[0]).items():
        torch.testing.assert_close(without[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_switch_takes_two_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything but on and off is refused with the choices."""
    monkeypatch.setenv("FACTORY_KERNELS", "maybe")
    with pytest.raises(ValueError, match="FACTORY_KERNELS=maybe: choose on or off"):
        kernels.are_enabled()
