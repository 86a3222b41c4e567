"""Other processes that use the same cores and GPUs, and so share the counters of a run."""

from __future__ import annotations

import importlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from factory.diagnosis.finding import Finding, Status
from factory.energy.cgroup import host_cpu_s
from factory.energy.process_tree import ProcessTable
from factory.energy.sources.nvml_devices import find_foreign_pids
from factory.runtime.cpus import usable_cpus
from factory.runtime.stored_files import visible

_SAMPLE_S = 0.3
_OTHERS = 0.05
"""Share of the cores that others may keep busy before a run calls its joules shared, as in `Claim`."""
_LONGEST_NAME = 60
_NUM_NAMES = 5
"""Processes that are named, the busiest first."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A process of others."""

    pid: int
    name: str
    cores: float
    """CPU seconds a second; 0 for one that is on the GPU."""

    def __str__(self) -> str:
        """Return name, number and load."""
        return f"{self.name} (process {self.pid}, {self.cores:.2g} cores)"


def examine() -> Finding:
    """Return the processes that would share the joules of a run here."""
    neighbours, cores_busy = busy_neighbours()
    on_gpu = gpu_neighbours()
    num_cores = len(usable_cpus())
    named = sum(neighbour.cores for neighbour in neighbours)
    # Processes of other containers are in the machine's CPU time, but in nobody's list here.
    hidden = max(0.0, cores_busy - named)
    parts = [str(neighbour) for neighbour in neighbours[:_NUM_NAMES] if neighbour.cores >= 0.01]
    if hidden > _OTHERS * num_cores:
        parts.append(f"processes that are not visible here ({hidden:.2g} cores)")
    parts += [f"{neighbour.name} (process {neighbour.pid}, on the GPU)" for neighbour in on_gpu]
    is_shared = bool(on_gpu) or named + hidden > _OTHERS * num_cores
    status = Status.OK
    text = "nobody else computes here, so a run claims all joules of its counters"
    if parts and not is_shared:
        text += f"; a little is used by {', '.join(parts)}"
    remedy = ""
    if is_shared:
        status = Status.LIMITED
        text = (
            f"{', '.join(parts)} use the same counters now: a run here would claim its own CPU time only, "
            "say shared, and have everybody's joules as its upper bound"
        )
        remedy = "stop them before you compare joules, or let one floor start all runs"
    facts = {"cores": round(named + hidden, 3), "processes": [neighbour.pid for neighbour in neighbours]}
    return Finding(
        section="measure",
        name="others on these counters",
        status=status,
        text=text,
        remedy=remedy,
        facts=facts,
    )


def busy_neighbours(sample_s: float = _SAMPLE_S) -> tuple[list[Neighbour], float]:
    """Return the other processes that use CPU time now, the busiest first, and the cores that all others use.

    Args:
        sample_s: Time between two looks [s].
    """
    table = ProcessTable()
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    before = {pid: table.read(pid) for pid in psutil.pids() if pid not in own}
    own_s = time.process_time()
    host_s = _host_s()
    begin_s = time.monotonic()
    time.sleep(sample_s)
    after = {pid: table.read(pid) for pid in before}
    elapsed_s = time.monotonic() - begin_s
    host_step_s = _host_s() - host_s - (time.process_time() - own_s)
    found: list[Neighbour] = []
    for pid, earlier in before.items():
        now = after[pid]
        # One that came, went, or gave its number to another meanwhile is left to the sum of all.
        if earlier is None or now is None or now.key != earlier.key:
            continue
        cores = (now.own_s - earlier.own_s) / elapsed_s
        if cores > 0.0:
            found.append(Neighbour(pid, _name(pid), cores))
    found.sort(key=lambda neighbour: -neighbour.cores)
    return found, max(0.0, host_step_s / elapsed_s)


def gpu_neighbours() -> list[Neighbour]:
    """Return the processes of others that compute on a GPU; none where NVML does not list any."""
    try:
        lib = importlib.import_module("pynvml")
        lib.nvmlInit()
    except Exception:  # no package, no driver, no permission: the other findings say so
        return []
    found: list[Neighbour] = []
    for index in range(lib.nvmlDeviceGetCount()):
        pids = find_foreign_pids(lib, lib.nvmlDeviceGetHandleByIndex(index), None) or []
        found += [Neighbour(pid, _name(pid), 0.0) for pid in pids]
    lib.nvmlShutdown()
    return found


def _name(pid: int) -> str:
    """Return a process's name; of the factory's own commands, such as `factory.train`, theirs."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        commands = [word for word in process.cmdline() if word.startswith("factory.")]
        # Any user of this machine gives processes names.
        return visible((commands or [process.name()])[0])[:_LONGEST_NAME]
    return "a process"


def _host_s() -> float:
    with suppress(OSError, ValueError):
        return host_cpu_s()
    return 0.0
