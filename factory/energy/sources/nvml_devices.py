"""GPUs that this process uses, and other processes that compute on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.energy.sources.base import SourceUnavailable


@dataclass(frozen=True, slots=True)
class VisibleGpu:
    """A physical board this process may use."""

    uuid: str
    handle: Any
    is_mig: bool
    """True if the process holds only a slice (MIG); the board's counter is then shared."""


def visible_gpus(
    lib: Any, environ: Mapping[str, str], *, indices: Sequence[int] | None
) -> tuple[list[VisibleGpu], list[str]]:
    """Resolve `CUDA_VISIBLE_DEVICES` (indices, UUIDs or their beginnings, MIG ids) as CUDA does.

    Args:
        lib: NVML, initialised.
        environ: Holds `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`.
        indices: Positions among the visible devices; all if None.

    Returns:
        The boards, each once, and remarks for the user.

    Raises:
        SourceUnavailable: If no such device is visible.
    """
    boards = all_boards(lib)
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    visible = boards
    if setting is not None:
        visible = _select(lib, boards, setting)
    # `device=cuda:1` counts among the visible devices, not among all boards.
    chosen = visible
    if indices is not None:
        chosen = [visible[index] for index in indices if index < len(visible)]
    is_short = indices is not None and len(chosen) < len(indices)
    if not chosen or is_short:
        raise SourceUnavailable(
            f"NVML shows {len(boards)} GPUs, {len(visible)} of them visible (CUDA_VISIBLE_DEVICES={setting})",
            remedy="name existing devices in CUDA_VISIBLE_DEVICES and device=cuda:<index>",
        )
    remarks = [_describe(gpu) for gpu in chosen]

    # NVML counts boards in PCI order, CUDA by speed unless told otherwise: with unequal boards index 0 of one
    # may be index 1 of the other.
    names = {_text(lib.nvmlDeviceGetName(gpu.handle)) for gpu in boards}
    by_index = setting is None or "-" not in setting
    if len(names) > 1 and by_index and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        remarks.append(
            "GPUs differ and CUDA orders them its own way: set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs"
        )
    # Two MIG slices of one board share its counter, which must be read once.
    once = {gpu.uuid: gpu for gpu in chosen}
    return list(once.values()), remarks


def find_foreign_pids(
    lib: Any, handle: Any, is_own_pid: Callable[[int], bool | None] | None
) -> list[int] | None:
    """Return the compute processes of others on a device; None if the device does not list any.

    Inside a container NVML may list this process under its PID on the host, which is unknown inside. One
    unknown process, while our own is missing from the list, is therefore taken for ours.
    """
    try:
        # Graphics processes are not counted: most workstations have some, and they draw little.
        pids = [process.pid for process in lib.nvmlDeviceGetComputeRunningProcesses(handle)]
    except (lib.NVMLError, AttributeError):
        return None
    verdicts = {pid: (is_own_pid or is_own_process)(pid) for pid in pids}
    foreign = [pid for pid, is_own in verdicts.items() if is_own is False]
    unknown = [pid for pid, is_own in verdicts.items() if is_own is None]
    is_ours_missing = True not in verdicts.values()
    if len(unknown) == 1 and is_ours_missing:
        return foreign
    return foreign + unknown


def is_own_process(pid: int, *, proc: Path = Path("/proc")) -> bool | None:
    """Tell whether `pid` is this process or descends from it; None if there is no such process here."""
    ancestor = pid
    while ancestor > 1:
        if ancestor == os.getpid():
            return True
        try:
            stat = (proc / str(ancestor) / "stat").read_text()
            # The second field is the command in brackets and may hold spaces; the parent comes two after it.
            _, _, after_command = stat.rpartition(")")
            ancestor = int(after_command.split()[1])
        except (OSError, ValueError, IndexError):
            # The process itself is unknown here; an unknown ancestor only means that it is not ours.
            if ancestor == pid:
                return None
            return False
    return False


def all_boards(lib: Any) -> list[VisibleGpu]:
    """Return every board of this machine."""
    boards: list[VisibleGpu] = []
    for index in range(lib.nvmlDeviceGetCount()):
        handle = lib.nvmlDeviceGetHandleByIndex(index)
        boards.append(VisibleGpu(_text(lib.nvmlDeviceGetUUID(handle)), handle, _in_mig_mode(lib, handle)))
    return boards


def _select(lib: Any, boards: Sequence[VisibleGpu], setting: str) -> list[VisibleGpu]:
    """Take the named devices in order; as in CUDA, the first name without a device ends the list."""
    chosen: list[VisibleGpu] = []
    for part in setting.split(","):
        gpu = _find(lib, boards, part.strip())
        if gpu is None:
            break
        chosen.append(gpu)
    return chosen


def _find(lib: Any, boards: Sequence[VisibleGpu], name: str) -> VisibleGpu | None:
    """Return the device of one entry of `CUDA_VISIBLE_DEVICES`, None if there is none."""
    if name.startswith("MIG-"):
        return _mig_parent(lib, name)
    if name.isdigit():
        index = int(name)
        if index < len(boards):
            return boards[index]
        return None
    # CUDA accepts the beginning of a UUID; an empty name matches nothing.
    return next((board for board in boards if name and board.uuid.startswith(name)), None)


def _mig_parent(lib: Any, mig_uuid: str) -> VisibleGpu | None:
    """Return the board that a MIG slice is part of: a slice has no counter of its own."""
    try:
        # NVML knows MIG slices by UUID; their energy is only available for the whole board.
        slice_handle = lib.nvmlDeviceGetHandleByUUID(mig_uuid)
        parent = lib.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(slice_handle)
        return VisibleGpu(_text(lib.nvmlDeviceGetUUID(parent)), parent, is_mig=True)
    except (lib.NVMLError, AttributeError):
        return None


def _in_mig_mode(lib: Any, handle: Any) -> bool:
    try:
        return bool(lib.nvmlDeviceGetMigMode(handle)[0])
    except (lib.NVMLError, AttributeError):
        return False


def _describe(gpu: VisibleGpu) -> str:
    if gpu.is_mig:
        return f"GPU {gpu.uuid} (MIG)"
    return f"GPU {gpu.uuid}"


def _text(value: str | bytes) -> str:
    """Decode a string, which older versions of the library return as bytes."""
    if isinstance(value, bytes):
        return value.decode()
    return value
