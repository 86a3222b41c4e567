"""Settings that could change speed and power here: looked up, never changed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.diagnosis.finding import Finding, Status
from factory.diagnosis.machine import HostEnvironment

_CAP_SYS_ADMIN = 21
_LIMIT = "constraint_0_power_limit_uw"


def examine(
    host: HostEnvironment, *, rapl_root: Path, sys_root: Path = Path("/sys"), nvml: Any = None
) -> list[Finding]:
    """Return every knob with its present value, its range, and whether this process may turn it.

    Args:
        host: Decides which remedy can help.
        rapl_root: The powercap tree.
        sys_root: Where /sys is.
        nvml: A library like `pynvml`; the installed one if None.
    """
    return [
        _work(),
        _cpu_limit(rapl_root, host),
        _governor(sys_root / "devices/system/cpu", host),
        *_gpus(nvml),
    ]


def _work() -> Finding:
    text = (
        "the amount of work can always be set: num_envs, physics.num_threads, runtime.torch_threads, "
        "pausing a run"
    )
    return _finding("work", Status.OK, text)


def _cpu_limit(root: Path, host: HostEnvironment) -> Finding:
    limits = list(_package_limits(root))
    if not limits:
        text = f"no power limit of a CPU package under {root}"
        return _finding("CPU power limit", Status.MISSING, text, _no_cpu_knob(host))
    shown = ", ".join(f"{folder.name} {watts}" for folder, watts in limits)
    if all(os.access(folder / _LIMIT, os.W_OK) for folder, _ in limits):
        return _finding("CPU power limit", Status.OK, f"may be set: {shown}")
    remedy = "run the command that sets it as root on the host; a read-only mount shows it only"
    return _finding("CPU power limit", Status.LIMITED, f"may be read, not set: {shown}", remedy)


def _package_limits(root: Path) -> Iterator[tuple[Path, str]]:
    # A package is a link in /sys/class/powercap, and lies a folder deeper where the tree itself is mounted.
    found = {
        path.parent.name: path.parent for depth in ("", "*/") for path in root.glob(f"{depth}*:*/{_LIMIT}")
    }
    for folder in (found[name] for name in sorted(found)):
        if folder.name.count(":") == 1 and "mmio" not in folder.name and "package" in _word(folder / "name"):
            limit_uw = _word(folder / _LIMIT)
            most_uw = _word(folder / "constraint_0_max_power_uw")
            if most_uw.isdigit() and int(most_uw):
                most = f" of at most {int(most_uw) * 1e-6:g} W"
            else:
                most = ""
            yield (
                folder,
                f"{int(limit_uw) * 1e-6:g} W{most}" if limit_uw.isdigit() else "(value for root only)",
            )


def _governor(cpu_root: Path, host: HostEnvironment) -> Finding:
    folder = next(iter(sorted(cpu_root.glob("cpu[0-9]*/cpufreq"))), None)
    if folder is None:
        text = f"no frequency control of the CPU under {cpu_root}/cpu*/cpufreq"
        return _finding("CPU frequency", Status.MISSING, text, _no_cpu_knob(host))
    low, high = (_word(folder / f"cpuinfo_{end}_freq") for end in ("min", "max"))
    if low.isdigit() and high.isdigit():
        span = f", {int(low) * 1e-6:g} to {int(high) * 1e-6:g} GHz"
    else:
        span = ""
    if span:
        choices = (folder / "scaling_available_governors").read_text().split()
    else:
        choices = []
    if choices:
        offered = f" of {', '.join(choices)}"
    else:
        offered = ""
    text = f"governor {_word(folder / 'scaling_governor')}{offered}{span}"
    if os.access(folder / "scaling_governor", os.W_OK):
        return _finding("CPU frequency", Status.OK, f"may be set: {text}")
    remedy = "as root on the host: sudo cpupower frequency-set -g <governor>"
    return _finding("CPU frequency", Status.LIMITED, f"may be read, not set: {text}", remedy)


def _gpus(nvml: Any) -> list[Finding]:
    """Return the knobs of every board.

    NVML has no question for the permission but trying, which would change it.
    """
    name = "GPU power limit, clocks"
    try:
        lib = nvml or importlib.import_module("pynvml")
        lib.nvmlInit()
    except Exception as error:  # ImportError, or whatever the library raises without a driver
        return [_finding(name, Status.MISSING, f"NVML cannot be asked: {error}", "see measure: NVML (GPU)")]
    try:
        handles = [lib.nvmlDeviceGetHandleByIndex(index) for index in range(lib.nvmlDeviceGetCount())]
        boards = [_board(lib, handle) for handle in handles]
    finally:
        with suppress(lib.NVMLError):
            lib.nvmlShutdown()
    if not boards:
        return [_finding(name, Status.MISSING, "NVML shows no GPU", "see machine: GPU")]
    if _is_admin():
        text = "this process has the right the driver asks for (CAP_SYS_ADMIN); not tried"
        return [_finding(name, Status.OK, f"{'; '.join(boards)}; {text}")]
    remedy = (
        "as root on the host: sudo nvidia-smi -pl <watts>, sudo nvidia-smi -lgc <MHz>; in a container "
        "--privileged"
    )
    text = "this process lacks CAP_SYS_ADMIN, which the driver asks for"
    return [_finding(name, Status.LIMITED, f"{'; '.join(boards)}; {text}", remedy)]


def _board(lib: Any, handle: Any) -> str:
    uuid = lib.nvmlDeviceGetUUID(handle)
    parts = [uuid.decode() if isinstance(uuid, bytes) else uuid]
    with suppress(lib.NVMLError, AttributeError):
        parts.append(f"power limit {lib.nvmlDeviceGetEnforcedPowerLimit(handle) * 1e-3:g} W")
        low_mw, high_mw = lib.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        parts.append(f"of {low_mw * 1e-3:g} to {high_mw * 1e-3:g} W")
    with suppress(lib.NVMLError, AttributeError):
        parts.append(f"at most {lib.nvmlDeviceGetMaxClockInfo(handle, lib.NVML_CLOCK_SM)} MHz")
    return " ".join(parts)


def _is_admin() -> bool:
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _no_cpu_knob(host: HostEnvironment) -> str:
    if host.is_virtual:
        return "nothing inside helps: the hypervisor keeps this knob; set it on the physical machine"
    if host.container:
        return "set it on the host: containers are given /sys read-only and without this folder"
    return (
        "load the processor's driver: sudo modprobe intel_rapl_msr for the limit, acpi_cpufreq for the "
        "frequency"
    )


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _finding(name: str, status: Status, text: str, remedy: str = "") -> Finding:
    return Finding(section="actuate", name=name, status=status, text=text, remedy=remedy)
