"""A floor with real lines: pre-empted or killed, they end with the weights of undisturbed runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from factory.floor.restarts import RESTARTS
from factory.floor.store import Store

_LINE = (
    "experiment=smoke",
    "total_steps=60000",
    "checkpoint_every=4",
    "runtime.video_s=0",
    "runtime.eval_episodes=4",
    "tracking=jsonl",
)
_PATIENCE_S = 300.0

pytestmark = pytest.mark.slow


def call(root: Path, *arguments: str) -> str:
    """Run a command of the floor and return its output."""
    command = [sys.executable, "-m", "factory.floor", *arguments, "--root", str(root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def status(root: Path) -> dict[str, Any]:
    """Return the state of floor and lines."""
    return json.loads(call(root, "status", "--json"))


def wait_for(root: Path, *states: str) -> dict[str, Any]:
    """Wait until the only line is in one of some states, and return it."""
    deadline = time.monotonic() + _PATIENCE_S
    with Store(root) as store:
        while (line := store.line(1)).state not in states:
            assert time.monotonic() < deadline, f"line is {line.state}, not {states}: {line.reason}"
            time.sleep(0.1)
    return status(root)["lines"][0]


def processes(root: Path) -> list[psutil.Process]:
    """Return the processes of lines that are alive."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = " ".join(process.info["cmdline"] or [])
        if str(root) in arguments and ("floor.wrapper" in arguments or "factory.train" in arguments):
            found.append(process)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Return the root of a floor; whatever a failed test leaves running is killed."""
    root = tmp_path / "floor"
    yield root
    for process in processes(root):
        process.kill()


def run(root: Path) -> subprocess.Popen[bytes]:
    """Start the floor in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "factory.floor", "run", "--root", str(root)], stdout=subprocess.DEVNULL
    )


def test_a_disturbed_line_ends_with_the_weights_of_an_undisturbed_one(root: Path, tmp_path: Path) -> None:
    """Pre-empted, its floor killed, its training killed: equal bits, one row for each attempt, full books."""
    assert call(root, "submit", *_LINE).split() == ["1"]
    assert call(root, "submit", *_LINE).split() == ["1"]
    floor = run(root)
    wait_for(root, "running")
    call(root, "preempt", "1")
    line = wait_for(root, "queued", "starting")
    assert line["exit_class"] == "preempted"
    wait_for(root, "running", "finished")

    floor.kill()
    floor.wait()
    for process in processes(root):
        if "factory.train" in " ".join(process.cmdline()):
            process.kill()
    floor = run(root)
    assert floor.wait(_PATIENCE_S) == 0

    state = status(root)
    (line,) = state["lines"]
    assert (line["state"], line["exit_class"]) == ("finished", "ok")
    assert line["attempts"] >= 2
    assert processes(root) == []
    charged_j = line["joules"] + state["floor"]["unattributed_j"]
    assert math.isclose(charged_j, state["floor"]["joules"], rel_tol=1e-9)
    assert "chain is intact" in call(root, "audit", "verify")
    with Store(root) as store:
        (starts,) = store.get(RESTARTS).values()
    assert len(starts) >= 2
    assert all(cpu_s > 0.5 for cpu_s in starts)  # torch alone takes longer to import

    alone = tmp_path / "alone"
    command = [sys.executable, "-m", "factory.train", *_LINE, f"hydra.run.dir={alone}"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    for part in ("policy", "learner", "env"):
        expected = load_file(alone / "checkpoints" / "last" / f"{part}.safetensors")
        found = load_file(Path(line["run_dir"]) / "checkpoints" / "last" / f"{part}.safetensors")
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
