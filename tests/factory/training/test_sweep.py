"""Sweeps whose jobs a cluster runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

JOB = (
    "task=cartpole_swingup",
    "num_envs=8",
    "learner.num_steps=8",
    "total_steps=128",
    "task.max_episode_steps=20",
    "learner.num_minibatches=2",
    "runtime.video_s=0",
    "runtime.eval_episodes=2",
    "tracking=null",
)
SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" "$RECORDED"
echo "no cluster here" >&2
exit 1
"""


def sweep(tmp_path: Path, *overrides: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "factory.train", "-m", *JOB, f"output_root={tmp_path / 'out'}", *overrides],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_job_script_asks_the_cluster_for_what_the_config_says(tmp_path: Path) -> None:
    """What sbatch is handed names array, GPU, cores, memory and time, and runs this Python."""
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "srun"):
        (tmp_path / "bin" / name).write_text(SBATCH)
        (tmp_path / "bin" / name).chmod(0o755)
    script = tmp_path / "script.sh"
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    overrides = "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "seed=0,1"
    ended = sweep(tmp_path, *overrides, PATH=path, RECORDED=str(script))
    assert "no cluster here" in ended.stderr
    asked = {
        line.removeprefix("#SBATCH --")
        for line in script.read_text().splitlines()
        if line.startswith("#SBATCH")
    }
    wanted = (
        "array=0-1%2",
        "cpus-per-task=16",
        "gpus-per-node=1",
        "mem=64GB",
        "nodes=1",
        "partition=gpu",
        "time=240",
    )
    assert asked.issuperset(wanted)
    assert sys.executable in script.read_text()


def test_jobs_run_in_processes_that_the_launcher_starts(tmp_path: Path) -> None:
    """The launcher that the cluster's is built on trains both jobs to their report."""
    ended = sweep(tmp_path, "hydra/launcher=submitit_local", "seed=0,1")
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.glob("out/**/report.html"))) == 2
