"""Resources of this process: CPU time used, cores and memory allowed.

Kernel documentation: Documentation/admin-guide/cgroup-v2.rst (`cpu.stat`, `cpu.max`, `memory.max`) and
cgroup-v1 (`cpuacct.usage`, `cpu.cfs_quota_us`, `memory.limit_in_bytes`).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from factory.energy.kernel_file import KernelFile
from factory.energy.process_tree import ProcessTree
from factory.runtime.cpus import usable_cpus

# Version 1 writes "no limit" as the largest multiple of the page size below 2**63; nobody has an exabyte.
_V1_UNLIMITED_BYTES = 2**60
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Mount:
    """A cgroup hierarchy: the folder of this process and the topmost visible folder."""

    folder: Path
    top: Path

    def upwards(self) -> Iterator[Path]:
        """Yield the folder of this process and its visible ancestors; the limits of all of them apply."""
        folder = self.folder
        yield folder
        while folder != self.top and self.top in folder.parents:
            folder = folder.parent
            yield folder


class Cgroup:
    """CPU time, quota and memory limit of the process's control group, version 2 or 1.

    Without one (no Linux, nothing mounted) the CPU time is that of the process and its children.
    """

    def __init__(self, proc_self: Path = Path("/proc/self")) -> None:
        """Find the control groups of the process.

        Args:
            proc_self: The folder with `cgroup`, `mountinfo` and `statm`.
        """
        self._read_resident_bytes = _choose_resident(proc_self)
        mounts = _find_mounts(proc_self)
        # Controllers may be split between version 1 and version 2 (hybrid mode): the dedicated one wins.
        self._cpu = mounts.get("cpu", mounts.get(""))
        self._memory = mounts.get("memory", mounts.get(""))
        self._read_usage_s, self.usage_origin = self._choose_usage(mounts)

    def usage_s(self) -> float:
        """Return the cumulative CPU time [s], of all threads and processes of the group."""
        return self._read_usage_s()

    def quota_cores(self) -> float | None:
        """Return the tightest CPU bandwidth limit [cores], None if there is none."""
        if self._cpu is None:
            return None
        quotas = [quota for folder in self._cpu.upwards() if (quota := _quota_cores(folder)) is not None]
        return min(quotas, default=None)

    def memory_limit_bytes(self) -> int | None:
        """Return the tightest memory limit [byte], None if there is none."""
        if self._memory is None:
            return None
        limits = [limit for folder in self._memory.upwards() if (limit := _memory_bytes(folder)) is not None]
        return min(limits, default=None)

    def memory_kills(self) -> int:
        """Return the number of processes that the kernel ended for want of memory; 0 if unknown."""
        if self._memory is None:
            return 0
        # Version 1 keeps the number elsewhere; each has one "key value" a line.
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError, ValueError):
                return _keyed((self._memory.folder / name).read_text(), "oom_kill")
        return 0

    def resident_bytes(self) -> int:
        """Return the resident memory of this process [byte]."""
        return self._read_resident_bytes()

    @staticmethod
    def _choose_usage(mounts: dict[str, Mount]) -> tuple[Callable[[], float], str]:
        candidates: list[tuple[Path, Callable[[str], float], str]] = []
        # cpuacct.usage is in ns, usage_usec in us.
        if (v1 := mounts.get("cpuacct")) is not None:
            candidates.append((v1.folder / "cpuacct.usage", lambda text: int(text) * 1e-9, "cgroup v1"))
        if (v2 := mounts.get("")) is not None:
            path = v2.folder / "cpu.stat"
            candidates.append((path, lambda text: _keyed(text, "usage_usec") * 1e-6, "cgroup v2"))
        for path, usage_s, origin in candidates:
            with suppress(OSError, ValueError):
                return _reader(path, usage_s), f"{origin} {path}"
        return ProcessTree().cpu_s, "CPU time of this process and its children (no cgroup found)"


def host_cpu_s(stat: Path = Path("/proc/stat")) -> float:
    """Return the CPU time of everything on the machine since it started [s], see proc_stat(5).

    Raises:
        OSError, ValueError: If the kernel does not tell it.
    """
    _, user, nice, system, _idle, _iowait, irq, softirq, *_ = stat.read_text().split(maxsplit=8)
    ticks = sum(map(int, (user, nice, system, irq, softirq)))
    return ticks / os.sysconf("SC_CLK_TCK")


def allocated_cores(cgroup: Cgroup) -> float:
    """Return the number of hardware threads this process may keep busy, by its affinity and its quota."""
    # The affinity mask reflects the cpuset of the control group.
    affinity = float(len(usable_cpus()))
    quota = cgroup.quota_cores()
    if quota is None:
        return affinity
    return min(affinity, quota)


def share_of_host(cgroup: Cgroup) -> float:
    """Return the fraction of the machine's hardware threads that this process may keep busy."""
    return allocated_cores(cgroup) / (os.cpu_count() or 1)


def _find_mounts(proc_self: Path) -> dict[str, Mount]:
    """Map each v1 controller, and `""` for v2, to this process's folder."""
    try:
        places = dict(_places((proc_self / "cgroup").read_text()))
        lines = (proc_self / "mountinfo").read_text().splitlines()
    except OSError:
        return {}
    mounts: dict[str, Mount] = {}
    for line in lines:
        # proc(5): "36 35 98:0 /root /mount/point rw shared:1 - cgroup2 cgroup2 rw,...". The number of
        # optional fields before " - " varies, so the line is split there first.
        fields, _, options = line.partition(" - ")
        kind, _, super_options = options.partition(" ")
        if not kind.startswith("cgroup"):
            continue
        _, _, _, root, point, *_ = fields.split()
        if kind == "cgroup2":
            controllers = [""]
        else:
            # Version 1 lists its controllers in the last field, among other options.
            controllers = super_options.split()[-1].split(",")
        for controller in controllers:
            if controller in places:
                mounts.setdefault(controller, _mount(point, root, places[controller]))
    return mounts


def _places(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        # "4:cpu,cpuacct:/path" for version 1, "0::/path" for version 2.
        _, controllers, place = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, place


def _mount(point: str, root: str, place: str) -> Mount:
    """Resolve a group's folder below its mount; in a container it may lie outside of the mount."""
    top = Path(point)
    inside = place.removeprefix(root.rstrip("/")).lstrip("/")
    folder = top / inside
    # With a cgroup namespace the kernel shows paths outside of it as `/../..`; the top is what can be read.
    if ".." in place or not folder.is_dir():
        folder = top
    return Mount(folder, top)


def _choose_resident(proc_self: Path) -> Callable[[], int]:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, IndexError):
        # The second field of statm is the resident set, in pages.
        return _reader(proc_self / "statm", lambda text: int(text.split()[1]) * page_bytes)
    # Without /proc: the largest resident set so far, which Linux gives in KiB; too high rather than too low.
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reader(path: Path, parse: Callable[[str], _T]) -> Callable[[], _T]:
    """Return a function that reads and parses a file; the file has been read once already."""
    # Reading once here makes a missing or malformed file fail now, while another candidate can be tried.
    file = KernelFile(path)
    parse(file.read())
    return lambda: parse(file.read())


def _keyed(text: str, key: str) -> int:
    """Return a number from a file with a key and a value in each line."""
    for line in text.splitlines():
        found, _, value = line.partition(" ")
        if found == key:
            return int(value)
    raise ValueError(f"no {key} among {text.split()[::2]}")


def _quota_cores(folder: Path) -> float | None:
    try:
        # "max 100000" or "50000 100000": CPU time [us] in each period [us]; version 1 has a file for each.
        if (file := folder / "cpu.max").is_file():
            quota, period = file.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text()
    except (OSError, ValueError):
        return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def _memory_bytes(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = (folder / name).read_text().strip()
        except OSError:
            continue
        if limit != "max" and int(limit) < _V1_UNLIMITED_BYTES:
            return int(limit)
    return None
