"""Settings that affect speed and power on this machine.

They are read and never changed, except for those that a killed process left changed, which are put back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.diagnosis.finding import Finding, Status
from factory.diagnosis.machine import HostEnvironment
from factory.energy.sources.nvml_devices import all_boards
from factory.power import registry
from factory.power.actuator import Refused
from factory.power.board import Board
from factory.power.recovery import put_back_leftovers
from factory.power.session import nvml_session

# Bit of the capability in the masks of /proc/<pid>/status (linux/capability.h).
_CAP_SYS_ADMIN = 21
# Constraint 0 of a package is its long-term limit.
_LIMIT = "constraint_0_power_limit_uw"


def examine(
    host: HostEnvironment, *, rapl_root: Path, sys_root: Path = Path("/sys"), nvml: Any = None
) -> list[Finding]:
    """Return every setting with its present value, its range, and whether this process may change it.

    Args:
        host: Surroundings, which decide the remedy.
        rapl_root: The powercap tree.
        sys_root: Folder that stands for /sys.
        nvml: A library like `pynvml`; the installed one if None.
    """
    return [
        _work(),
        _cpu_limit(rapl_root, host),
        _governor(sys_root / "devices/system/cpu", host),
        *_gpus(nvml),
        *_leftovers(nvml),
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
        # Virtual machines and containers have no such tree, so the remedy depends on the host.
        text = f"no power limit of a CPU package under {root}"
        return _finding("CPU power limit", Status.MISSING, text, _cpu_setting_remedy(host))
    # The permission is asked of the file system; writing a value to find out would change it.
    shown = ", ".join(f"{folder.name} {watts}" for folder, watts in limits)
    if all(os.access(folder / _LIMIT, os.W_OK) for folder, _ in limits):
        return _finding("CPU power limit", Status.OK, f"may be set: {shown}")
    remedy = "set it as root on the host; a read-only mount cannot set it"
    return _finding("CPU power limit", Status.LIMITED, f"may be read, not set: {shown}", remedy)


def _package_limits(root: Path) -> Iterator[tuple[Path, str]]:
    # A package is a link in /sys/class/powercap, and lies a folder deeper where the tree itself is mounted.
    found = {
        path.parent.name: path.parent for depth in ("", "*/") for path in root.glob(f"{depth}*:*/{_LIMIT}")
    }
    for name in sorted(found):
        folder = found[name]
        # `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it; MMIO zones are second views.
        is_package = name.count(":") == 1 and "mmio" not in name and "package" in _word(folder / "name")
        if not is_package:
            continue
        limit_uw = _word(folder / _LIMIT)
        if not limit_uw.isdigit():
            yield folder, "(value for root only)"
            continue
        watts = f"{int(limit_uw) * 1e-6:g} W"
        # Some processors report a largest value of 0, which means unknown.
        most_uw = _word(folder / "constraint_0_max_power_uw")
        if most_uw.isdigit() and int(most_uw):
            watts += f" of at most {int(most_uw) * 1e-6:g} W"
        yield folder, watts


def _governor(cpu_root: Path, host: HostEnvironment) -> Finding:
    # All CPUs of one machine have the same driver and usually the same governor: one stands for all.
    folder = next(iter(sorted(cpu_root.glob("cpu[0-9]*/cpufreq"))), None)
    if folder is None:
        text = f"no frequency control of the CPU under {cpu_root}/cpu*/cpufreq"
        return _finding("CPU frequency", Status.MISSING, text, _cpu_setting_remedy(host))
    text = f"governor {_word(folder / 'scaling_governor')}"
    # Files of cpufreq give kHz. Drivers without frequencies have no list of governors either.
    low_khz, high_khz = (_word(folder / f"cpuinfo_{end}_freq") for end in ("min", "max"))
    if low_khz.isdigit() and high_khz.isdigit():
        governors = (folder / "scaling_available_governors").read_text().split()
        if governors:
            text += f" of {', '.join(governors)}"
        text += f", {int(low_khz) * 1e-6:g} to {int(high_khz) * 1e-6:g} GHz"
    if os.access(folder / "scaling_governor", os.W_OK):
        return _finding("CPU frequency", Status.OK, f"may be set: {text}")
    remedy = "as root on the host: sudo cpupower frequency-set -g <governor>"
    return _finding("CPU frequency", Status.LIMITED, f"may be read, not set: {text}", remedy)


def _gpus(nvml: Any) -> list[Finding]:
    """Return the settings of every board.

    NVML can only tell whether a setting is allowed by changing it, so the process's rights are looked up.
    """
    name = "GPU power limit, clocks"
    try:
        with nvml_session(nvml) as lib:
            boards = [_board(Board(lib, gpu.handle, gpu.uuid)) for gpu in all_boards(lib)]
    except Refused as reason:
        return [_finding(name, Status.MISSING, str(reason), "see measure: NVML (GPU)")]
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


def _board(board: Board) -> str:
    lib = board.lib
    handle = board.handle
    parts = [board.uuid]
    # Boards differ in what they report: each value is left out where it is missing.
    with suppress(lib.NVMLError, AttributeError):
        parts.append(f"power limit {lib.nvmlDeviceGetEnforcedPowerLimit(handle) * 1e-3:g} W")
        low_mw, high_mw = lib.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        parts.append(f"of {low_mw * 1e-3:g} to {high_mw * 1e-3:g} W")
    with suppress(lib.NVMLError, AttributeError):
        parts.append(f"at most {lib.nvmlDeviceGetMaxClockInfo(handle, lib.NVML_CLOCK_SM)} MHz")
    settings = [name for name, actuator in registry.BOARD.items() if actuator(board).available()]
    parts.append(f"(settings of a profile: {', '.join(settings) or 'none'})")
    return " ".join(parts)


def _leftovers(nvml: Any) -> list[Finding]:
    """Put back what killed processes left changed; report each setting."""
    findings: list[Finding] = []
    for leftover in put_back_leftovers(lib=nvml):
        status = Status.LIMITED
        remedy = "run this as the user that may change it, e.g. as root with the same FACTORY_STATE_DIR"
        if leftover.is_back:
            status = Status.OK
            remedy = ""
        findings.append(_finding("left changed", status, leftover.text, remedy))
    return findings


def _is_admin() -> bool:
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            # The effective capabilities, as a hexadecimal mask.
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _cpu_setting_remedy(host: HostEnvironment) -> str:
    if host.is_virtual:
        return "nothing inside helps: the hypervisor hides this setting; change it on the physical machine"
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
