"""Part of a machine's energy that a run may claim while others use the same cores.

Nobody can tell whose the joules of a shared processor are. The rule here is that no joule has two owners, and
it needs no agreement among the runs: a run claims its own CPU time at the power of a busy core, and the idle
power of the cores that nobody uses only as long as it is alone. So what all runs claim never exceeds the
machine; once there are two, the idle power of free cores belongs to none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from factory.energy.process_tree import ProcessTree

_OTHERS = 0.05
"""Share of the machine that others may keep busy, on average over the run, without being called company."""
_LASTING_S = 1.0
"""Time after which company is no mistake [s]: a new process of our own looks like a stranger's at first."""


class Scope(StrEnum):
    """Energy that the source bills: whose CPU time, and which idle cores."""

    ALLOCATION = "allocation"
    """This run's CPU time, and the cores that nobody uses while this run is alone."""
    PROCESS = "process"
    """This run's CPU time, and the rest of the cores it may use, whatever others do."""
    NODE = "node"
    """Everything, whoever used it: for the one meter of a host."""


@dataclass(frozen=True, slots=True)
class CoreSeconds:
    """Time of cores, busy and idle [s]."""

    busy_s: float
    idle_s: float

    def weigh(self, *, idle: float, busy: float) -> float:
        """Return the sum with weights, such as powers [W]."""
        return idle * self.idle_s + busy * self.busy_s


class Claim:
    """Divides the core-seconds of a machine, or of an allocation, into a run's and all."""

    def __init__(
        self,
        *,
        own_cpu_s: Callable[[], float],
        all_cpu_s: Callable[[], float],
        num_cores: float,
        own_cores: float,
        scope: Scope = Scope.ALLOCATION,
    ) -> None:
        """Take the present CPU times as zero.

        Args:
            own_cpu_s: Returns the cumulative CPU time of this run [s].
            all_cpu_s: Returns that of everything on the cores, this run included [s].
            num_cores: Cores that are divided.
            own_cores: Cores that this run may use.
            scope: Rule of the division.
        """
        self._own_cpu_s = own_cpu_s
        self._all_cpu_s = all_cpu_s
        self._num_cores = num_cores
        self._own_cores = own_cores
        self._scope = scope
        self.is_shared = scope is Scope.ALLOCATION and own_cores < num_cores
        """True once others have used the cores, or if they may at any time; it stays true."""
        self._has_company = self.is_shared
        self._company_s = 0.0
        # Own before all in every read: what passes between the two counts as the others'.
        self._own_s = own_cpu_s()
        self._all_s = all_cpu_s()
        self._others_s = 0.0
        self._capacity_s = 0.0

    def advance(self, elapsed_s: float) -> tuple[CoreSeconds, CoreSeconds] | None:
        """Return the core-seconds since the last call: this run's, and all.

        Args:
            elapsed_s: Time since the last call [s].

        Returns:
            None if the CPU time ran backwards, for instance after a move to another control group.

        Raises:
            OSError, ValueError: If a CPU time cannot be read; the next call covers the time.
        """
        own_now_s = self._own_cpu_s()
        all_now_s = self._all_cpu_s()
        own_s = max(0.0, own_now_s - self._own_s)
        all_s = all_now_s - self._all_s
        self._own_s = own_now_s
        self._all_s = all_now_s
        if all_s < 0.0:
            return None

        # Ticks of the kernel may show a run more time than its machine, or a machine more than it has.
        capacity_s = self._num_cores * elapsed_s
        busy_s = min(max(all_s, own_s), capacity_s)
        everything = CoreSeconds(busy_s, capacity_s - busy_s)
        own_busy_s = min(own_s, busy_s)
        self._look_for_company(all_s - own_s, elapsed_s)
        if self._scope is Scope.NODE:
            return everything, everything
        if self._scope is Scope.PROCESS:
            own_idle_s = max(0.0, self._own_cores * elapsed_s - own_busy_s)
        elif self.is_shared or self._has_company:
            own_idle_s = 0.0
        else:
            own_idle_s = everything.idle_s
        return CoreSeconds(own_busy_s, min(own_idle_s, everything.idle_s)), everything

    def all_s(self) -> float:
        """Return the CPU time of everything at the last call [s]."""
        return self._all_s

    def seek(self, all_s: float) -> None:
        """Go on from an earlier CPU time of everything [s]."""
        self._all_s = all_s

    def _look_for_company(self, others_s: float, elapsed_s: float) -> None:
        """Notice others once they have kept more than 5 % of the cores busy, on average since the start."""
        self._others_s += others_s
        self._capacity_s += self._num_cores * elapsed_s
        has_company = self._others_s > _OTHERS * self._capacity_s
        if has_company and self._has_company:
            self._company_s += elapsed_s
        else:
            self._company_s = 0.0
        self._has_company = has_company
        if self._scope is Scope.ALLOCATION and self._company_s >= _LASTING_S:
            self.is_shared = True


def run_tree(environ: Mapping[str, str]) -> ProcessTree:
    """Return the processes of this run on this host: those of all its ranks, which one rank meters.

    Args:
        environ: Environment that holds `LOCAL_WORLD_SIZE`.
    """
    if environ.get("LOCAL_WORLD_SIZE", "1") != "1":
        # Ranks are siblings: the launcher, e.g. torchrun, is the parent of all of them.
        with suppress(ProcessLookupError):
            return ProcessTree(os.getppid())
    return ProcessTree()
