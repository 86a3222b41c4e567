"""Instruments with a known truth: a clock, a power P(t), a powercap tree, an NVML and a plain source."""

# The fake library bears the names of the real one.
# ruff: noqa: N801, N802, N818

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from factory.energy.cgroup import Cgroup
from factory.energy.sources.base import EnergySource
from factory.energy.types import Boundary, Capability, Reading, Tier


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self.now_ns = int(start_s * 1e9)

    def __call__(self) -> int:
        """Return the time [ns]."""
        return self.now_ns

    @property
    def now_s(self) -> float:
        """Return the time [s]."""
        return self.now_ns * 1e-9

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now_ns += round(seconds * 1e9)


class FakeCgroup(Cgroup):
    """A control group with settable figures."""

    def __init__(self, *, memory_bytes: int | None = 8 * 10**9) -> None:
        self.used_s = 100.0
        self.usage_origin = "a test"
        self._memory_bytes = memory_bytes

    def usage_s(self) -> float:
        """Return the CPU time."""
        return self.used_s

    def memory_limit_bytes(self) -> int | None:
        """Return the limit."""
        return self._memory_bytes

    def resident_bytes(self) -> int:
        """Return a fixed size."""
        return 2 * 10**9


class PowerTrace:
    """Piecewise constant power from a start time; the last level lasts for ever."""

    def __init__(self, levels: Sequence[tuple[float, float]], *, start_s: float = 1000.0) -> None:
        """Take `(duration_s, power_w)` pairs."""
        self._edges_s, self._joules, self._powers_w = [start_s], [0.0], []
        for duration_s, power_w in levels:
            self._edges_s.append(self._edges_s[-1] + duration_s)
            self._joules.append(self._joules[-1] + duration_s * power_w)
            self._powers_w.append(power_w)

    @classmethod
    def constant(cls, power_w: float, *, start_s: float = 1000.0) -> PowerTrace:
        """Return a power that never changes."""
        return cls([(1.0, power_w)], start_s=start_s)

    def power_w(self, t_s: float) -> float:
        """Return the power at a time."""
        index = bisect_right(self._edges_s, t_s) - 1
        return self._powers_w[min(max(index, 0), len(self._powers_w) - 1)]

    def energy_j(self, t_s: float) -> float:
        """Return the energy from the start of the trace."""
        index = min(max(bisect_right(self._edges_s, t_s) - 1, 0), len(self._powers_w) - 1)
        return self._joules[index] + (t_s - self._edges_s[index]) * self._powers_w[index]


class RaplZone:
    """One powercap folder whose counter follows a power."""

    def __init__(self, folder: Path, trace: PowerTrace, *, start_uj: int, range_uj: int | None) -> None:
        self.folder, self.trace, self.range_uj = folder, trace, range_uj
        self.offset_uj = start_uj

    def write(self, t_s: float) -> None:
        """Write the counter as it stands."""
        value_uj = self.offset_uj + round(self.trace.energy_j(t_s) * 1e6)
        if self.range_uj is not None:
            value_uj %= self.range_uj + 1
        (self.folder / "energy_uj").write_text(f"{value_uj}\n")

    def reset(self, t_s: float) -> None:
        """Set the counter to zero, as a suspend or a firmware does."""
        self.offset_uj = -round(self.trace.energy_j(t_s) * 1e6)
        self.write(t_s)


class RaplTree:
    """A powercap tree driven from known powers."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root, self.clock = root, clock
        self.zones: dict[str, RaplZone] = {}

    def add(
        self,
        zone: str,
        name: str,
        power: PowerTrace | float,
        *,
        start_uj: int = 7_000_000,
        range_uj: int | None = 262_143_328_850,
    ) -> RaplZone:
        """Add a zone such as `intel-rapl:0/intel-rapl:0:1`."""
        folder = self.root / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
        if range_uj is not None:
            (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        trace = power if isinstance(power, PowerTrace) else PowerTrace.constant(power)
        self.zones[zone] = RaplZone(folder, trace, start_uj=start_uj, range_uj=range_uj)
        self.zones[zone].write(self.clock.now_s)
        return self.zones[zone]

    def advance(self, seconds: float) -> None:
        """Let time pass and the counters move."""
        self.clock.advance(seconds)
        for zone in self.zones.values():
            zone.write(self.clock.now_s)


class NVMLError(Exception):
    """Base of the fake library's errors."""


class NVMLError_NotSupported(NVMLError):
    """The board cannot do it."""


class NVMLError_FunctionNotFound(NVMLError):
    """The driver is too old."""


class NVMLError_GpuIsLost(NVMLError):
    """The board fell off the bus."""


class FakeGpu:
    """A board whose counter integrates a known power every 100 ms, looking at a part of each period only."""

    def __init__(
        self,
        uuid: str,
        power: PowerTrace | float,
        *,
        duty: float = 1.0,
        gain: float = 1.0,
        tick_s: float = 0.1,
        phase_s: float = 0.0,
        limit_w: float = 700.0,
        name: str = "NVIDIA H100",
    ) -> None:
        self.uuid, self.name, self.limit_w = uuid, name, limit_w
        self.trace = power if isinstance(power, PowerTrace) else PowerTrace.constant(power)
        self.duty, self.gain, self.tick_s = duty, gain, tick_s
        self.is_mig = False
        self.pids: list[int] = []
        self._tick_s_done = 1000.0 + phase_s
        self._counter_j = 5000.0

    def counter_mj(self, t_s: float) -> int:
        """Return the energy counter [mJ]; each period counts as if it all were like its last part."""
        while self._tick_s_done + self.tick_s <= t_s + 1e-12:
            end_s = self._tick_s_done + self.tick_s
            seen_s = self.duty * self.tick_s
            seen_j = self.trace.energy_j(end_s) - self.trace.energy_j(end_s - seen_s)
            self._counter_j += self.gain * seen_j / self.duty
            self._tick_s_done = end_s
        return int(self._counter_j * 1e3)

    def reset_counter(self) -> None:
        """Start from zero, as a reloaded driver does."""
        self._counter_j = 0.0


class FakeNvml:
    """The functions of `pynvml` that the source uses, with switches for what goes wrong."""

    NVMLError = NVMLError
    NVML_FI_DEV_POWER_INSTANT = 186
    NVML_POWER_SCOPE_GPU = 0

    def __init__(self, clock: Clock, gpus: Sequence[FakeGpu]) -> None:
        self.clock, self.gpus = clock, list(gpus)
        self.mig_slices: dict[str, FakeGpu] = {}
        self.missing: set[str] = set()
        self.field_status = 0
        self.errors: dict[str, NVMLError] = {}
        self.num_inits = self.num_calls = 0

    def __getattribute__(self, name: str) -> Any:
        """Hide missing functions, raise what is to be raised."""
        if name.startswith("nvml"):
            if name in self.missing:
                raise AttributeError(name)
            if name in self.errors:
                return self._raiser(self.errors[name])
            self.num_calls += 1
        return super().__getattribute__(name)

    @staticmethod
    def _raiser(error: NVMLError) -> Any:
        def fail(*_: Any) -> None:
            raise error

        return fail

    def nvmlInit(self) -> None:
        self.num_inits += 1

    def nvmlShutdown(self) -> None:
        self.num_inits -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        if uuid not in self.mig_slices:
            raise NVMLError("Not Found")
        return self.mig_slices[uuid]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: FakeGpu) -> FakeGpu:
        return handle

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        return [int(handle.is_mig), int(handle.is_mig)]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: FakeGpu) -> int:
        return int(handle.limit_w * 1e3)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        return handle.counter_mj(self.clock.now_s)

    def nvmlDeviceGetFieldValues(self, handle: FakeGpu, requests: Sequence[Any]) -> list[Any]:
        power_mw = int(handle.trace.power_w(self.clock.now_s) * 1e3)
        return [
            SimpleNamespace(nvmlReturn=self.field_status, value=SimpleNamespace(uiVal=power_mw))
            for _ in requests
        ]

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        """Return the mean of the last second [mW], as Ampere boards do."""
        now_s = self.clock.now_s
        return int((handle.trace.energy_j(now_s) - handle.trace.energy_j(now_s - 1.0)) * 1e3)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in handle.pids]


class PowerSource(EnergySource):
    """A perfect source of one component, with bounds of 10 %, that can be made to fail."""

    def __init__(
        self,
        clock: Clock,
        power: PowerTrace | float,
        *,
        component: str = "cpu",
        tier: Tier = Tier.MEASURED,
        boundary: Boundary = Boundary.PACKAGE,
        period_s: float = 0.001,
    ) -> None:
        self.name = f"fake-{component}"
        self.trace = power if isinstance(power, PowerTrace) else PowerTrace.constant(power)
        self._clock = clock
        self.component, self.tier, self.boundary, self.period_s = component, tier, boundary, period_s
        self.error: Exception | None = None
        self.num_reads = self.num_opens = self.num_closes = 0

    @classmethod
    def from_config(cls, cfg: Any, device: str, environ: Any) -> PowerSource:
        """Refuse: tests build it with a clock and a power."""
        raise NotImplementedError

    def open(self) -> Capability:
        """Set the zero."""
        if self.error is not None:
            raise self.error
        self.num_opens += 1
        self._zero_j = self.trace.energy_j(self._clock.now_s)
        return Capability(
            self.name, self.tier, self.boundary, (self.component,), self.period_s, None, (self.name,)
        )

    def read(self) -> Reading:
        """Return the exact energy since the zero."""
        self.num_reads += 1
        if self.error is not None:
            raise self.error
        joules = self.trace.energy_j(self._clock.now_s) - self._zero_j
        return Reading(
            self._clock(), self.name, self.tier, {self.component: joules}, 0.9 * joules, 1.1 * joules
        )

    def close(self) -> None:
        """Count the call."""
        self.num_closes += 1
