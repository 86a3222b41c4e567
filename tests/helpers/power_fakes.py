"""A board whose settings outlive the process, as a driver's do, and that obeys, refuses or arbitrates."""

# The fake library bears the names of the real one.
# ruff: noqa: N801, N802, N815, N818

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

from energy_fakes import Clock, FakeGpu, FakeNvml, NVMLError, NVMLError_NotSupported

UUID = "GPU-0"
LIMIT_MW = 700_000
FACTORY_SETTINGS = {"limit_mw": LIMIT_MW, "clocks_mhz": None, "requested": [], "writes": []}


class NVMLError_NoPermission(NVMLError):
    """The caller is not root."""


class Mask(ctypes.Structure):
    """255 bits."""

    _fields_ = [("mask", ctypes.c_uint * 8)]


class CurrentProfiles(ctypes.Structure):
    """The workload power profiles of a board: those it has, those requested, those in force."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("perfProfilesMask", Mask),
        ("requestedProfilesMask", Mask),
        ("enforcedProfilesMask", Mask),
    ]


class RequestedProfiles(ctypes.Structure):
    """A request for workload power profiles."""

    _fields_ = [("version", ctypes.c_uint), ("requestedProfilesMask", Mask)]


class SettableNvml(FakeNvml):
    """NVML with setters, one board, and settings in a file.

    Modes: `working`; `refusing` raises as without root; `arbitrating` takes a request without an error and
    enforces another value; `stubborn` takes a request and ignores it.
    """

    NVML_CLOCK_SM = 1
    nvmlClocksEventReasonUserDefinedClocks = 2
    c_nvmlWorkloadPowerProfileCurrentProfiles_v1_t = CurrentProfiles
    c_nvmlWorkloadPowerProfileRequestedProfiles_v1_t = RequestedProfiles

    def __init__(self, file: Path, *, mode: str = "working", profiles: tuple[int, ...] = (0, 1, 5)) -> None:
        super().__init__(Clock(), [FakeGpu(UUID, 300.0)])
        self.file = file
        self.mode = mode
        self.profiles = profiles
        self.clock_reasons = 0
        if not file.exists():
            self.settings = FACTORY_SETTINGS

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the driver keeps."""
        return json.loads(self.file.read_text())

    @settings.setter
    def settings(self, values: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(values))

    def _set(self, key: str, value: Any) -> None:
        if self.mode == "refusing":
            raise NVMLError_NoPermission("Insufficient Permissions")
        settings = self.settings
        settings["writes"].append([key, value])
        if self.mode != "stubborn":
            settings[key] = value
        self.settings = settings

    def nvmlDeviceGetPowerManagementLimit(self, handle: FakeGpu) -> int:
        return self.settings["limit_mw"]

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: FakeGpu) -> int:
        return LIMIT_MW

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: FakeGpu) -> list[int]:
        return [200_000, LIMIT_MW]

    def nvmlDeviceSetPowerManagementLimit(self, handle: FakeGpu, limit_mw: int) -> None:
        self._set("limit_mw", limit_mw)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: FakeGpu) -> int:
        limit_mw = self.settings["limit_mw"]
        return max(limit_mw, 600_000) if self.mode == "arbitrating" else limit_mw

    def nvmlDeviceGetSupportedMemoryClocks(self, handle: FakeGpu) -> list[int]:
        return [2619, 1593]

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle: FakeGpu, memory_mhz: int) -> list[int]:
        assert memory_mhz == 2619
        return list(range(1980, 344, -15))

    def nvmlDeviceSetGpuLockedClocks(self, handle: FakeGpu, low_mhz: int, high_mhz: int) -> None:
        self._set("clocks_mhz", [low_mhz, high_mhz])

    def nvmlDeviceResetGpuLockedClocks(self, handle: FakeGpu) -> None:
        self._set("clocks_mhz", None)

    def nvmlDeviceGetClockInfo(self, handle: FakeGpu, kind: int) -> int:
        clocks_mhz = self.settings["clocks_mhz"]
        if clocks_mhz is None or self.mode == "arbitrating":
            return 1980
        return clocks_mhz[1]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: FakeGpu) -> int:
        return self.clock_reasons

    def nvmlDeviceWorkloadPowerProfileGetCurrentProfiles(self, handle: FakeGpu, reference: Any) -> None:
        if not self.profiles:
            raise NVMLError_NotSupported("Not Supported")
        status = reference._obj
        requested = self.settings["requested"]
        # The lowest id has the highest priority and conflicts with all others.
        enforced = requested[:1] if self.mode == "arbitrating" else requested
        set_bits(status.perfProfilesMask, self.profiles)
        set_bits(status.requestedProfilesMask, requested)
        set_bits(status.enforcedProfilesMask, enforced)

    def nvmlDeviceWorkloadPowerProfileSetRequestedProfiles(self, handle: FakeGpu, reference: Any) -> None:
        self._set("requested", sorted({*self.settings["requested"], *bits(reference)}))

    def nvmlDeviceWorkloadPowerProfileClearRequestedProfiles(self, handle: FakeGpu, reference: Any) -> None:
        self._set("requested", sorted(set(self.settings["requested"]) - bits(reference)))


def set_bits(mask: Mask, numbers: Any) -> None:
    """Set bits of a mask."""
    for number in numbers:
        mask.mask[number // 32] |= 1 << number % 32


def bits(reference: Any) -> set[int]:
    """Return the bits of a request."""
    mask = reference._obj.requestedProfilesMask.mask
    return {number for number in range(255) if mask[number // 32] >> number % 32 & 1}
