"""Several processes that train one policy, started as torchrun starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from factory.training import checkpoint

pytestmark = pytest.mark.slow

JOB = (
    "task=cartpole_swingup",
    "num_envs=16",
    "learner.num_steps=16",
    "learner.num_minibatches=1",
    "checkpoint_every=2",
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "runtime.video_s=0",
    "runtime.eval_episodes=2",
    "task.max_episode_steps=20",
    "tracking=null",
    "seed=5",
    "learner.schedule=adaptive",  # a linear one depends on total_steps
)
ITERATION = 16 * 16
DOG = ("task=quadruped_velocity", "task.max_episode_steps=7")
"""Its observations are drawn, also those after a reset."""


def start(*overrides: str, processes: int) -> list[subprocess.Popen[str]]:
    """Start a job in so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "factory.train", *overrides],
            env=os.environ
            | common
            | {"LOCAL_WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def train(run_dir: Path, *overrides: str) -> checkpoint.Checkpoint:
    """Run a job to its end in two processes and return its last checkpoint."""
    is_resumed = any(override.startswith("resume=") for override in overrides)
    folder = [] if is_resumed else [f"hydra.run.dir={run_dir}"]
    jobs = start(*JOB, *DOG, *folder, *overrides, processes=2)
    ends = [(job.communicate(timeout=240), job.returncode) for job in jobs]
    assert [code for _, code in ends] == [0, 0], ends
    return checkpoint.load(run_dir)


def learned(found: checkpoint.Checkpoint) -> dict[str, torch.Tensor]:
    return {name: value for name, value in found.tensors["policy"].items() if value.is_floating_point()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for three iterations in two processes; return the run's folder, which is to stay as it is."""
    run_dir = tmp_path_factory.mktemp("pair") / "run"
    train(run_dir, f"total_steps={3 * ITERATION}")
    return run_dir


def test_two_processes_are_one(pair: Path, command_line: Callable[..., None], tmp_path: Path) -> None:
    """Policy, worlds, token and episode counts after three iterations are those of one process, but for
    rounding.
    """
    alone = tmp_path / "alone"
    command_line(*JOB, *DOG, f"total_steps={3 * ITERATION}", f"hydra.run.dir={alone}")
    one, two = (checkpoint.load(run_dir) for run_dir in (alone, pair))
    torch.testing.assert_close(learned(two), learned(one), rtol=1e-3, atol=1e-5)
    for name, value in one.tensors["env"].items():
        assert two.tensors["env"][name].shape == value.shape, name
    assert two.state["tokens"] == one.state["tokens"]
    rows = [json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1]) for run_dir in (alone, pair)]
    first, second = (
        {k: v for k, v in row["metrics"].items() if k.startswith(("train/", "loss/"))} for row in rows
    )
    assert second == pytest.approx(first, rel=1e-2, abs=1e-4)
    assert two.state["peer_meters"][0]["cpu_s"] > 0
    assert one.state["peer_meters"] == []


def test_resumed_pair_goes_on_exactly_and_a_single_process_takes_over(
    pair: Path, command_line: Callable[..., None], tmp_path: Path
) -> None:
    """Two iterations and one of two processes are three, bit for bit; one process can do the last as well."""
    whole = checkpoint.load(pair)
    parted = tmp_path / "parted"
    train(parted, f"total_steps={2 * ITERATION}")
    single = tmp_path / "single"
    shutil.copytree(parted, single, symlinks=True)
    spent = json.loads((parted / "energy.json").read_text())
    resumed = train(parted, f"total_steps={3 * ITERATION}", f"resume={parted}")
    (before_s, after_s) = (state["peer_meters"][0]["cpu_s"] for state in (spent, resumed.state))
    assert before_s < after_s < before_s + resumed.state["meter"]["cpu_s"] - 0.5 * spent["meter"]["cpu_s"]
    assert all(torch.equal(value, learned(resumed)[name]) for name, value in learned(whole).items())
    command_line(f"resume={single}", f"total_steps={3 * ITERATION}")
    torch.testing.assert_close(learned(checkpoint.load(single)), learned(whole), rtol=1e-3, atol=1e-5)


def test_death_of_one_process_ends_all_with_one_line(tmp_path: Path) -> None:
    """When a process is killed, rank 0 says so in one line, and how to go on; a third one says nothing."""
    jobs = start(*JOB, f"hydra.run.dir={tmp_path}", "num_envs=18", "total_steps=50_000_000", processes=3)
    deadline = time.monotonic() + 180
    while not (tmp_path / "checkpoints" / "last").exists():
        # Before the first exchange the others would wait for the one that is killed, up to ten minutes.
        assert time.monotonic() < deadline, "no checkpoint"
        assert all(job.poll() is None for job in jobs)
        time.sleep(0.1)
    jobs[1].send_signal(signal.SIGKILL)
    errors = [job.communicate(timeout=60)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [1, -signal.SIGKILL, 1]
    assert errors[0].strip().startswith("error: another process of this run ended")
    assert f"resume={tmp_path}" in errors[0]
    assert len(errors[0].strip().splitlines()) == 1
    assert errors[2] == ""


def test_mistake_is_said_once(tmp_path: Path) -> None:
    """A wrong value ends every process with status 2, and only rank 0 says why."""
    jobs = start(*JOB, f"hydra.run.dir={tmp_path / 'run'}", "num_envs=15", processes=2)
    errors = [job.communicate(timeout=60)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [2, 2]
    assert errors == ["error: num_envs=15: must divide by 2 processes\n", ""]
    assert not (tmp_path / "run").exists()


def test_sweep_is_refused_in_one_line(tmp_path: Path) -> None:
    """`-m` ends every process with status 2 where it would train several policies, and only rank 0 says
    why.
    """
    jobs = start(*JOB, "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "num_envs=16,32", processes=2)
    errors = [job.communicate(timeout=60)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [2, 2]
    assert errors[0].startswith("error: -m: the processes that torchrun starts train one policy")
    assert errors[0].count("\n") == 1 and errors[1] == ""
    assert not (tmp_path / "sweep").exists()


def test_what_only_prints_is_printed_once() -> None:
    """Rank 0 prints, and the others end well without a word."""
    jobs = start(*JOB, "--cfg", "job", processes=2)
    ends = [job.communicate(timeout=60) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], ends
    assert ends[0][0] and ends[0][1] == "" and ends[1] == ("", "")


ALONE = """
import os, signal, sys, threading
from factory.runtime import distributed
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
with distributed.process_group("cpu"):
    pass
"""


def test_signal_ends_the_wait_for_the_other_processes() -> None:
    """A process whose companion never comes answers SIGTERM at once, not after ten minutes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run([sys.executable, "-c", ALONE], env=os.environ | variables, timeout=60)
    assert done.returncode == 7
