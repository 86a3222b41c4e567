"""Settings of a process: its CPUs, its niceness, and the spinning of its OpenMP threads.

They end with the process, so they need no journal. None of them changes what it computes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from factory.power.actuator import Actuator, Applied, Refused
from factory.power.config import ProfileConfig

SPIN_VARIABLE = "GOMP_SPINCOUNT"
DEFAULT_SPIN = "3000"
"""Spin count that the package sets unless the user does."""
_TOPOLOGY = Path("/sys/devices/system/cpu")
_MOST_PASSES = 10
"""Looks at the list of threads before giving up on a process that keeps starting new ones."""


def set_threads(pid: int, change: Callable[[int], None]) -> None:
    """Apply a change to every thread of a process; Linux keeps affinity and niceness by thread.

    Threads that start later inherit the settings of the thread that starts them.

    Raises:
        OSError: the change is not allowed, or the process is gone.
    """
    folder = Path(f"/proc/{pid or 'self'}/task")
    if not folder.is_dir():
        change(pid)
        return
    done: set[int] = set()
    # A thread may start another one during a pass, before it got the new setting itself.
    for _ in range(_MOST_PASSES):
        new = {int(path.name) for path in folder.iterdir()} - done
        if not new:
            return
        for thread in sorted(new):
            try:
                change(thread)
            except ProcessLookupError:
                # It ended meanwhile.
                continue
        done |= new


class Cores(Actuator):
    """CPUs that a process may use."""

    name = "cores"

    def __init__(self, pid: int = 0, *, topology: Path = _TOPOLOGY) -> None:
        """Name the process; 0 is this one."""
        self._pid = pid
        self._topology = topology
        self._original: set[int] = set()

    def available(self) -> bool:
        """Tell whether the system has affinity masks."""
        return hasattr(os, "sched_setaffinity")

    @classmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether the profile limits the CPUs."""
        return bool(cfg.cores) or cfg.one_per_core

    def apply(self, cfg: ProfileConfig) -> Applied:
        """Keep the process on the first of its CPUs."""
        if not self.available():
            raise Refused("this system has no affinity of processes")
        present = sorted(os.sched_getaffinity(self._pid))
        chosen = present
        if cfg.one_per_core:
            chosen = self._one_per_core(chosen)
        if cfg.cores:
            chosen = chosen[: cfg.cores]
        self._original = set(present)
        self._set(set(chosen))
        return Applied(actuator=self.name, asked=_listed(chosen), enforced=_listed(self._present()))

    def restore(self) -> None:
        """Give the process its CPUs back."""
        if self._original:
            self._set(self._original)

    def _set(self, cpus: set[int]) -> None:
        try:
            set_threads(self._pid, lambda thread: os.sched_setaffinity(thread, cpus))
        except OSError as error:
            raise Refused(f"CPUs {_listed(cpus)}: {error.strerror}") from error

    def _present(self) -> set[int]:
        return set(os.sched_getaffinity(self._pid))

    def _one_per_core(self, cpus: list[int]) -> list[int]:
        """Return the first CPU of every physical core; all where the system does not tell."""
        # Hardware threads of one core have the same list of siblings, which serves as the core's name.
        first: dict[str, int] = {}
        for cpu in cpus:
            try:
                core = (self._topology / f"cpu{cpu}/topology/thread_siblings_list").read_text()
            except OSError:
                core = str(cpu)
            first.setdefault(core, cpu)
        return sorted(first.values())


class Niceness(Actuator):
    """Share of the CPUs that a process gets when others want them too."""

    name = "nice"

    def __init__(self, pid: int = 0) -> None:
        """Name the process; 0 is this one."""
        self._pid = pid
        self._original: int | None = None

    def available(self) -> bool:
        """Tell whether the system has niceness."""
        return hasattr(os, "setpriority")

    @classmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether the profile gives way to others."""
        return cfg.nice > 0

    def apply(self, cfg: ProfileConfig) -> Applied:
        """Raise the niceness; it is never lowered."""
        if not self.available():
            raise Refused("this system has no niceness of processes")
        self._original = self._present()
        asked = max(cfg.nice, self._original)
        self._set(asked)
        return Applied(actuator=self.name, asked=str(asked), enforced=str(self._present()))

    def restore(self) -> None:
        """Put the niceness back where that is allowed, mostly to root; it ends with the process anyway."""
        if self._original is not None:
            with contextlib.suppress(Refused):
                self._set(self._original)

    def _set(self, value: int) -> None:
        try:
            set_threads(self._pid, lambda thread: os.setpriority(os.PRIO_PROCESS, thread, value))
        except OSError as error:
            raise Refused(f"niceness {value}: {error.strerror}") from error

    def _present(self) -> int:
        return os.getpriority(os.PRIO_PROCESS, self._pid)


class Spinning(Actuator):
    """Rounds that an OpenMP thread spins before it sleeps.

    libgomp reads the variable once, when torch loads it, so `prepare` has to come before that.
    """

    name = "spin"

    def available(self) -> bool:
        """Tell whether torch is not loaded yet."""
        return "torch" not in sys.modules

    @classmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether the profile sets the spin count."""
        return cfg.spin >= 0

    def apply(self, cfg: ProfileConfig) -> Applied:
        """Set the variable if that is still in time, and report its value."""
        prepare(cfg.spin)
        present = os.environ.get(SPIN_VARIABLE, DEFAULT_SPIN)
        enforced = present
        if present != str(cfg.spin):
            enforced += ", set in the environment or before torch was loaded"
        return Applied(actuator=self.name, asked=str(cfg.spin), enforced=enforced)

    def restore(self) -> None:
        """Leave the variable: torch has read it for good."""


def prepare(spin: int) -> None:
    """Set the spin count that torch reads when it is loaded.

    Do nothing afterwards, where the user chose a value in the environment, or for a negative count.
    """
    present = os.environ.get(SPIN_VARIABLE, DEFAULT_SPIN)
    if spin >= 0 and present == DEFAULT_SPIN and "torch" not in sys.modules:
        os.environ[SPIN_VARIABLE] = str(spin)


def _listed(cpus: set[int] | list[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
