"""Sweeps: jobs that fail, folders, and jobs that a cluster runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.tracking.run_ids import read_ids
from factory.tracking.store import connect

pytestmark = pytest.mark.slow

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
SMALL = (*JOB[1:4], *JOB[5:])
"""The same for every task."""
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


def test_failed_job_does_not_stop_the_others(
    command_line: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    """The second job runs, the table shows both, and the exit status says that one failed."""
    odd = (
        "task=gymnasium",
        "env_id=odd_worlds:odd/Odd-v0",
        "task.kwargs.event=error",
        "task.max_episode_steps=5",
    )
    with pytest.raises(SystemExit, match="1"):
        command_line("-m", *odd, *SMALL, "task.kwargs.when=5,100000")
    out, err = capfd.readouterr()
    assert "job 1 of 2: task.kwargs.when=5" in out
    assert "job 2 of 2: task.kwargs.when=100000" in out
    table = out[out.index("\njob  status") :].splitlines()
    assert [line.split()[:2] for line in table[2:4]] == [["1", "failed"], ["2", "finished"]]
    assert "compare them: python -m factory.compare run=outputs/" in out
    assert err.count("error:") == 1
    assert "Traceback" not in err


def test_sweep_over_environments_is_one_folder(command_line: Callable[..., None], tmp_path: Path) -> None:
    """All jobs lie under one folder, which the comparison takes."""
    command_line("-m", "task=gymnasium", "env_id=CartPole-v1,Pendulum-v1", *SMALL)
    (folder,) = tmp_path.rglob("sweep_*")
    assert len(list(folder.glob("*/summary.json"))) == 2


def test_two_runs_of_the_same_second_have_two_folders(tmp_path: Path) -> None:
    """Equal jobs that start together share nothing."""
    command = [sys.executable, "-m", "factory.train", *JOB, "output_root=out"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    assert len(list(tmp_path.glob("out/cartpole_swingup/*/summary.json"))) == 2


def test_parent_run_of_a_killed_sweep_is_closed_by_the_next_sweep(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    """After kill -9, MLflow shows the sweep as KILLED once another one has begun beside it."""
    job = ("-m", *JOB, f"output_root={tmp_path / 'out'}", "tracking=mlflow")
    first = subprocess.Popen(
        [sys.executable, "-m", "factory.train", *job, "seed=0", "total_steps=100000000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + 120.0
    while not list(tmp_path.glob("out/*/sweep_*/*/metrics.jsonl")) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    first.kill()
    first.wait(timeout=60)
    (lock,) = tmp_path.glob("out/*/sweep_*/.lock")
    ids = read_ids(lock.parent)
    ledger = connect(ids["uri"])
    assert ledger.get_run(ids["run_id"]).info.status == "RUNNING"
    command_line(*job, "seed=1")
    assert ledger.get_run(ids["run_id"]).info.status == "KILLED"
    # The sweep that ended by itself has left no lock.
    assert not list(tmp_path.glob("out/*/sweep_*/.lock"))
