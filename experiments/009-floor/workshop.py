"""A floor under test: its process, its lines, and the undisturbed runs that they are compared with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

GROUPS = Path("/sys/fs/cgroup/cpuacct")
PARTS = ("policy", "learner", "env", "collector", "generators")


class FloorUnderTest:
    """Commands to a floor in a folder of its own."""

    def __init__(self, root: Path) -> None:
        """Use the floor in `root`."""
        self.root = root
        self.log = root / "run.log"
        self.process: subprocess.Popen[bytes] | None = None

    def call(self, *arguments: str) -> str:
        """Run a command of the floor and return its output."""
        command = [sys.executable, "-m", "factory.floor", *arguments, "--root", str(self.root)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout

    def submit(self, *overrides: str) -> list[int]:
        """Queue lines and return their ids."""
        return [int(text) for text in self.call("submit", *overrides).split()]

    def start(self, *arguments: str) -> None:
        """Start `floor run` in the background."""
        command = [sys.executable, "-m", "factory.floor", "run", "--root", str(self.root), *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def start_apart(self, *arguments: str) -> bool:
        """Start `floor run` in a control group of its own, which meters it apart from everything else.

        Return True if that was possible; the floor starts in any case.
        """
        group = GROUPS / f"trial-{os.getpid()}-{id(self)}"
        home = GROUPS / "cgroup.procs"
        try:
            # An earlier floor of this process may have left one of the same name.
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            self.start(*arguments)
            return False
        # The floor and its lines inherit the group; this process returns to where it was.
        self.start(*arguments)
        home.write_text(str(os.getpid()))
        return True

    def kill(self) -> None:
        """Kill the floor's process with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait(self, timeout_s: float) -> int:
        """Wait for the floor to end and return its exit status."""
        assert self.process is not None
        return self.process.wait(timeout=timeout_s)

    def status(self) -> dict[str, Any]:
        """Return the state of floor and lines."""
        return json.loads(self.call("status", "--json"))

    def line(self, number: int) -> dict[str, Any]:
        """Return the state of a line."""
        return next(line for line in self.status()["lines"] if line["id"] == number)

    def wait_for(self, number: int, *states: str, timeout_s: float = 300.0) -> dict[str, Any]:
        """Wait until a line is in one of some states."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            line = self.line(number)
            if line["state"] in states:
                return line
            time.sleep(0.3)
        raise TimeoutError(f"line {number} is {line['state']}, not {states}")

    def sessions(self) -> list[psutil.Process]:
        """Return the wrappers and trainings of this floor that are alive."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter(["cmdline"]):
            text = " ".join(process.info["cmdline"] or [])
            if str(self.root) in text and ("floor.wrapper" in text or "factory.train" in text):
                found.append(process)
        return found

    def trainings(self, number: int) -> list[psutil.Process]:
        """Return the training processes of a line."""
        folder = f"{self.root.absolute()}/lines/{number}/"
        return [
            process
            for process in self.sessions()
            if folder in " ".join(process.cmdline()) and "factory.train" in " ".join(process.cmdline())
        ]

    def lose_power(self) -> None:
        """Kill everything at once."""
        for process in self.sessions():
            _kill(process)
        self.kill()
        for process in self.sessions():
            _kill(process)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def undisturbed(folder: Path, overrides: Sequence[str]) -> Path:
    """Train without a floor and return the run folder; done once for a folder."""
    run_dir = folder / "run"
    if not (run_dir / "summary.json").exists():
        command = [sys.executable, "-m", "factory.train", *overrides]
        command += [f"output_root={folder}", f"hydra.run.dir={run_dir}"]
        subprocess.run(command, check=True, capture_output=True, timeout=1200)
    return run_dir


def differences(one: Path, other: Path) -> list[str]:
    """Return the tensors in which the last checkpoints of two runs differ."""
    found: list[str] = []
    for part in PARTS:
        first = load_file(one / "checkpoints" / "last" / f"{part}.safetensors")
        second = load_file(other / "checkpoints" / "last" / f"{part}.safetensors")
        found += [f"{part}.{name}" for name in first.keys() ^ second.keys()]
        found += [
            f"{part}.{name}"
            for name in first.keys() & second.keys()
            if not torch.equal(first[name], second[name])
        ]
    return found
