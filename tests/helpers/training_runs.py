"""Small trainings for tests: their settings, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
NUM_ENVS = 16
NUM_STEPS = 8
ROLLOUT = NUM_ENVS * NUM_STEPS
"""Environment steps of an iteration."""
TINY = (
    "task=cartpole_swingup",
    "task.max_episode_steps=40",
    "learner.num_minibatches=2",
    "learner.schedule=adaptive",  # a linear schedule depends on total_steps, which a resume may change
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "runtime.eval_episodes=4",
    "runtime.video_s=0",
    "runtime.register_model=false",
)
CARTPOLE = (*TINY, f"num_envs={NUM_ENVS}", f"learner.num_steps={NUM_STEPS}")
FILES_ONLY = "tracking=jsonl"


def newest_run(root: Path) -> Path:
    """Return the folder of the run that began last."""
    return max(
        (path.parent for path in root.glob("outputs/**/config.yaml")),
        key=lambda path: path.stat().st_mtime_ns,
    )


def newest_run_in(output_root: Path) -> Path:
    """Return the folder of the only run under an output root."""
    (found,) = (path.parent for path in output_root.glob("*/*/config.yaml"))
    return found


def summary_of(run_dir: Path) -> dict[str, Any]:
    """Return the content of a run's `summary.json`."""
    return json.loads((run_dir / "summary.json").read_text())


def assert_equal_checkpoints(first: Path, second: Path, *, env_steps: int) -> None:
    """Compare every tensor of two runs' last checkpoints, bit for bit."""
    folders = [run_dir / "checkpoints" / "last" for run_dir in (first, second)]
    assert [folder.resolve().name for folder in folders] == [str(env_steps)] * 2
    names = [sorted(path.name for path in folder.glob("*.safetensors")) for folder in folders]
    assert names[0] == names[1]
    assert {"policy.safetensors", "learner.safetensors", "env.safetensors"} <= set(names[0])
    for name in names[0]:
        ours, theirs = (load_file(folder / name) for folder in folders)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), f"{name}: {key}"


class Started:
    """`python -m factory.train` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """Start it in `folder`."""
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._log = (folder / "log").open("w+")
        command = [sys.executable, "-m", "factory.train", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=self._log
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something the process does, while it runs."""
        due_s = time.monotonic() + 180.0
        while not condition():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < due_s, f"it takes too long: {self.log()}"
            time.sleep(0.002)

    def log(self) -> str:
        """Return what it printed."""
        self._log.seek(0)
        return self._log.read()
