"""Which GPUs this process uses, and who else computes on them."""

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
    """Whether the process holds only a slice (MIG): the board's counter is then shared."""


def visible_gpus(
    lib: Any, environ: Mapping[str, str], *, indices: Sequence[int] | None
) -> tuple[list[VisibleGpu], list[str]]:
    """Resolve `CUDA_VISIBLE_DEVICES` (indices, UUIDs or their beginnings, MIG ids) as CUDA does.

    Args:
        lib: NVML, initialised.
        environ: Holds `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`.
        indices: Places among the visible devices; all if None.

    Returns:
        The boards, each once, and remarks for the reader.

    Raises:
        SourceUnavailable: If no such device is visible.
    """
    handles = [lib.nvmlDeviceGetHandleByIndex(index) for index in range(lib.nvmlDeviceGetCount())]
    boards = [
        VisibleGpu(_text(lib.nvmlDeviceGetUUID(handle)), handle, _in_mig_mode(lib, handle))
        for handle in handles
    ]
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    visible = boards if setting is None else _select(lib, boards, setting)
    chosen = visible if indices is None else [visible[index] for index in indices if index < len(visible)]
    if not chosen or (indices is not None and len(chosen) < len(indices)):
        raise SourceUnavailable(
            f"NVML shows {len(boards)} GPUs, {len(visible)} of them visible (CUDA_VISIBLE_DEVICES={setting})",
            remedy="name existing devices in CUDA_VISIBLE_DEVICES and device=cuda:<index>",
        )
    remarks = [f"GPU {gpu.uuid}{' (MIG)' if gpu.is_mig else ''}" for gpu in chosen]
    names = {_text(lib.nvmlDeviceGetName(gpu.handle)) for gpu in boards}
    by_index = setting is None or "-" not in setting
    if len(names) > 1 and by_index and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        remarks.append(
            "GPUs differ and CUDA orders them its own way: set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs"
        )
    return list({gpu.uuid: gpu for gpu in chosen}.values()), remarks


def find_foreign_pids(
    lib: Any, handle: Any, is_own_pid: Callable[[int], bool | None] | None
) -> list[int] | None:
    """Return the compute processes on a device that are not of this run; None if the device does not tell.

    Inside a container NVML may show this very process under the host's number, which nobody in here knows.
    One unknown process while our own is missing from the list is therefore taken for ours.
    """
    try:
        pids = [process.pid for process in lib.nvmlDeviceGetComputeRunningProcesses(handle)]
    except (lib.NVMLError, AttributeError):
        return None
    verdicts = {pid: (is_own_pid or is_own_process)(pid) for pid in pids}
    unknown = [pid for pid, is_own in verdicts.items() if is_own is None]
    if len(unknown) == 1 and True not in verdicts.values():
        unknown = []
    return [pid for pid, is_own in verdicts.items() if is_own is False] + unknown


def is_own_process(pid: int, *, proc: Path = Path("/proc")) -> bool | None:
    """Tell whether `pid` is this process or descends from it; None if there is no such process here."""
    ancestor = pid
    while ancestor > 1:
        if ancestor == os.getpid():
            return True
        try:
            # The second field is the command in brackets and may hold spaces; the parent comes two after it.
            ancestor = int((proc / str(ancestor) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None if ancestor == pid else False
    return False


def _select(lib: Any, boards: Sequence[VisibleGpu], setting: str) -> list[VisibleGpu]:
    """Take the named devices in order; as in CUDA, the first name that fits none ends the list."""
    chosen: list[VisibleGpu] = []
    for name in (part.strip() for part in setting.split(",")):
        if name.startswith("MIG-"):
            gpu = _mig_parent(lib, name)
        elif name.isdigit():
            gpu = boards[int(name)] if int(name) < len(boards) else None
        else:
            gpu = next((board for board in boards if name and board.uuid.startswith(name)), None)
        if gpu is None:
            break
        chosen.append(gpu)
    return chosen


def _mig_parent(lib: Any, mig_uuid: str) -> VisibleGpu | None:
    try:
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


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
