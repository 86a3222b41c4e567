"""One process writes to a run folder at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from factory.training import run_lock


def test_lock_is_there_inside_the_block_alone(tmp_path: Path) -> None:
    """The lock names host and process, and goes with the block."""
    with run_lock.locked(tmp_path):
        owner = json.loads((tmp_path / ".lock").read_text())
        assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
    assert not list(tmp_path.iterdir())


def test_a_live_owner_is_named(tmp_path: Path) -> None:
    """A run that another process writes to is refused with its host and number."""
    code = "import sys, pathlib; from factory.training.run_lock import locked\n"
    code += "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(
            ValueError, match=f"process {owner.pid} on {socket.gethostname()} writes to this run"
        ):
            run_lock.check_free(tmp_path, key="resume")
        owner.communicate()
    run_lock.check_free(tmp_path, key="resume")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"host": 1}', "null"])
def test_a_broken_lock_is_taken_over(tmp_path: Path, content: str) -> None:
    """A file that a dying process left half written locks nobody out."""
    (tmp_path / ".lock").write_text(content)
    with run_lock.locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_dead_owner_and_its_successor_of_the_same_number_are_told_apart(tmp_path: Path) -> None:
    """A process that only has the number of the owner, but started later, owns nothing."""
    owner = {"host": socket.gethostname(), "pid": os.getppid(), "started": 1.0}
    (tmp_path / ".lock").write_text(json.dumps(owner))
    run_lock.check_free(tmp_path, key="resume")


def test_an_owner_on_another_host_is_believed(tmp_path: Path) -> None:
    """Whether it is alive cannot be seen from here, so the message says how to go on."""
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "pid": 3, "started": 1.0}))
    with pytest.raises(ValueError, match=r"process 3 on elsewhere .* or remove .*\.lock"):
        run_lock.check_free(tmp_path, key="resume")


def test_the_lock_of_a_lost_host_is_removed(tmp_path: Path) -> None:
    """Only the lock of this host goes; a run folder without one is left alone."""
    lock = tmp_path / ".lock"
    run_lock.release_lost(tmp_path, host="node-7")
    lock.write_text(json.dumps({"host": "node-7", "pid": 1, "started": 0.0}))
    run_lock.release_lost(tmp_path, host="node-8")
    assert lock.exists()
    run_lock.release_lost(tmp_path, host="node-7")
    assert not lock.exists()
