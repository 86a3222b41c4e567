"""A process that measures one library, in its own Python environment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping

import psutil
from installs import Install
from peers.serving import ANSWERS

LIBRARIES = (
    "envpool",
    "gymnasium",
    "mjbatch",
    "mjbatch-uni",
    "mujoco",
    "numpy",
    "rsl-rl-lib",
    "stable-baselines3",
    "torch",
    "unilab",
    "unisim-core",
)
"""Packages whose version belongs to a result."""


class Worker:
    """A running `peers.<name>`; between measurements it sleeps."""

    def __init__(self, name: str, install: Install, environment: Mapping[str, str]) -> None:
        """Start it; what it prints goes to a file beside its environment."""
        self.name = name
        self.install = install
        self.log = install.folder / "log.txt"
        reading, writing = os.pipe()
        paths = os.pathsep.join(map(str, install.paths))
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [install.python, "-P", "-m", f"peers.{name}"],
                cwd=install.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                env={**os.environ, **environment, "PYTHONPATH": paths, ANSWERS: str(writing)},
                text=True,
            )
        os.close(writing)
        self._answers = os.fdopen(reading)

    def measure(self, case: str, seconds: float) -> dict[str, float]:
        """Return the metrics of the worker, and `busy_elsewhere`: cores busy with anything else meanwhile.

        Raises:
            ValueError: the worker ended.
        """
        before, own_before_s = psutil.cpu_times(), self._cpu_s()
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"case": case, "seconds": seconds}), file=self._process.stdin, flush=True)
        answer = self._answers.readline()
        if not answer:
            raise ValueError(f"{self.name} ended; its last words: {self._last_words()}")
        after, own_after_s = psutil.cpu_times(), self._cpu_s()
        spent = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
        # Guests are part of user and nice.
        total_s = sum(value for name, value in spent.items() if not name.startswith("guest"))
        busy_s = total_s - spent["idle"] - spent.get("iowait", 0.0)
        wall_s = total_s / (psutil.cpu_count() or 1)
        return json.loads(answer) | {"busy_elsewhere": (busy_s - (own_after_s - own_before_s)) / wall_s}

    def versions(self) -> dict[str, str]:
        """Return the versions of what matters in the worker's environment."""
        code = (
            "import importlib.metadata as m; "
            "print(*sorted({f'{d.name}={d.version}' for d in m.distributions()}))"
        )
        done = subprocess.run(
            [self.install.python, "-P", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=self.install.folder,
        )
        found = dict(pair.replace("_", "-").split("=", 1) for pair in done.stdout.split())
        return {name: version for name, version in found.items() if name in LIBRARIES}

    def close(self) -> None:
        """Let it end."""
        if self._process.stdin and self._process.poll() is None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _cpu_s(self) -> float:
        """Return the CPU time of the process and those it started [s]."""
        try:
            root = psutil.Process(self._process.pid)
            times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        except psutil.NoSuchProcess:
            return 0.0
        return sum(spent.user + spent.system for spent in times)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "none"
