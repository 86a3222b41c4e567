"""A scene: a floor of its own with tiny lines that really run, for one fault."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from factory.floor import submission
from factory.floor.engines.local import LocalEngine
from factory.floor.store import Store
from factory.floor.submission import Order
from factory.operator import processes
from factory.operator.scoring import floor_process, trace
from factory.operator.scoring.cases import Case

_WORLD = Path(__file__).parent / "worlds" / "sick_pole.py"
_LINE = (
    f"plugins=[{_WORLD}]",
    "task=sick_pole",
    "num_envs=32",
    "learner.num_steps=32",
    "total_steps=1000000000",
    "checkpoint_every=100",
    "runtime.torch_threads=1",
    "runtime.keep_checkpoints=2",
    "runtime.video_s=0",
    "tracking=jsonl",
    "task.max_episode_steps=100",
)
_PATIENCE_S = 900.0
_LOOK_S = 0.2
_CORES = 8.0
"""CPUs that the floor believes it has, so that one line too many is possible."""


class Scene:
    """Starts floor and lines, and ends everything it has started."""

    def __init__(self, folder: Path, case: Case, *, overrides: Sequence[str], seed: int) -> None:
        """Prepare a scene; nothing runs before `open`.

        Args:
            folder: empty folder for it.
            case: class of the fault.
            overrides: settings of the operator.
            seed: seed of the lines.
        """
        self.folder = folder
        self.root = folder / "floor"
        self.case = case
        self.seed = seed
        self.helpers: list[subprocess.Popen[bytes]] = []
        """Processes besides the floor that the scene has started."""
        self.mounts: list[Path] = []
        self._settings = floor_process.FloorSettings(
            root=str(self.root), cores=_CORES, overrides=list(overrides)
        )
        self._floor: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> int:
        """Return the line that the fault befalls."""
        return 1

    def home(self, line: int) -> Path:
        """Return the folder in which a line looks for its sickness."""
        return self.folder / f"line-{line}"

    def open(self, *settings: str) -> None:
        """Queue the lines of the case and start the floor.

        Args:
            settings: further settings of the lines.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for number in range(self.case.num_lines):
            self.submit(*self.case.settings, *settings, seed=self.seed + number)
        self.start_floor()

    def submit(self, *settings: str, seed: int) -> None:
        """Queue one more line; each has the seed after that of the line before it."""
        order = Order(flex=self.case.flex, cores=self.case.cores)
        home = self.home(1 + seed - self.seed)
        home.mkdir(exist_ok=True)
        overrides = (*_LINE, f"task.folder={home}", f"seed={seed}", *settings)
        # Later values replace earlier ones.
        given = {override.partition("=")[0]: override for override in overrides}
        lines = submission.prepare(list(given.values()), order, root=self.root, cwd=self.folder)
        with Store(self.root, create=True) as store:
            submission.queue(store, lines)

    def start_floor(self) -> None:
        """Start the floor, or start it again."""
        with (self.folder / "floor.log").open("ab") as log:
            self._floor = subprocess.Popen(
                floor_process.command(self.folder, self._settings), stdout=log, stderr=log
            )

    def kill_floor(self) -> None:
        """Kill the floor; its lines go on."""
        assert self._floor is not None
        self._floor.kill()
        self._floor.wait()

    def ticks(self) -> list[trace.Tick]:
        """Return what the floor has recorded so far."""
        return trace.read(self.folder / floor_process.TRACE)

    def wait_until_usual(self) -> None:
        """Wait until all lines have made so many iterations that their speed is known, and a checkpoint.

        Raises:
            RuntimeError: they do not.
        """
        limit_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < limit_s:
            num_rows: dict[str, int] = {}
            for tick in self.ticks():
                for number, line in tick["lines"].items():
                    num_rows[number] = num_rows.get(number, 0) + len(line["rows"])
            # A checkpoint as well: some faults befall it, and restarts need one.
            if len(num_rows) >= self.case.num_lines and min(num_rows.values()) >= self.case.usual_rows:
                self.wait_for_checkpoint(self.target)
                return
            if self._floor is None or self._floor.poll() is not None:
                break
            time.sleep(5.0 * _LOOK_S)
        raise RuntimeError(f"{self.folder}: its lines do not run; see floor.log there")

    def training(self, line: int) -> tuple[int, ...]:
        """Return the processes of a line, the training first."""
        with Store(self.root) as store:
            attempt = store.last_attempt(line)
        if attempt is None or attempt.handle is None:
            raise RuntimeError(f"line {line} has no process")
        return processes.look(attempt.handle.pid).pids

    def wait_for_checkpoint(self, line: int) -> Path:
        """Return the folder of a line's newest checkpoint, once there is one."""
        limit_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < limit_s:
            with Store(self.root) as store:
                folder = Path(store.line(line).run_dir) / "checkpoints"
            with contextlib.suppress(OSError):
                return folder / os.readlink(folder / "last")
            time.sleep(_LOOK_S)
        raise RuntimeError(f"line {line} writes no checkpoint")

    def burn(self, number: int, *, cpus: list[int] | None = None) -> None:
        """Start processes that only use up CPU time."""
        for _ in range(number):
            # In a session of its own, as a line is: Linux may share a CPU among sessions first.
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
            self.helpers.append(process)
            if cpus:
                os.sched_setaffinity(process.pid, cpus)

    def close(self) -> None:
        """End the floor, its lines and everything else, and take mounts away."""
        if self._floor is not None and self._floor.poll() is None:
            self._floor.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._floor.wait(10.0)
            self._floor.kill()
            self._floor.wait()
        engine = LocalEngine()
        with contextlib.suppress(ValueError), Store(self.root) as store:
            # Lines outlive their floor, so they are ended one by one.
            for attempt in store.attempts():
                if attempt.handle is not None:
                    engine.kill(attempt.handle)
        self.end_helpers()
        for mount in self.mounts:
            subprocess.run(["umount", "-l", str(mount)], check=False)
        self.mounts.clear()

    def end_helpers(self) -> None:
        """Kill burners and servers with all they have started."""
        for helper in self.helpers:
            for process in _with_children(helper.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            helper.wait()
        self.helpers.clear()

    def mount(self, size_bytes: int) -> bool:
        """Put the floor on a small disk of its own; return False where that is not allowed."""
        self.root.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(self.root)],
            check=False,
            capture_output=True,
        )
        if done.returncode == 0:
            self.mounts.append(self.root)
        return done.returncode == 0


def _with_children(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []
