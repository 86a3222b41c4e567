"""GPU board energy from NVIDIA's management library, through the package `nvidia-ml-py`.

Reference: NVML API, `nvmlDeviceGetTotalEnergyConsumption` (mJ since driver load, Volta and later) and field
`NVML_FI_DEV_POWER_INSTANT`.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from factory.energy.sources.base import SourceError, SourceUnavailable
from factory.energy.sources.nvml_devices import VisibleGpu, find_foreign_pids, visible_gpus
from factory.energy.types import Boundary, Capability, Interval, Reading, Tier
from factory.energy.uncertainty import coverage_u_j, expanded_j, quantisation_u_j

_PERIOD_S = 0.1
"""Update period of counter and power sensor: about 100 ms (ML.ENERGY, thermally stable profiling)."""
_GAIN_U = 0.05
"""Relative standard uncertainty of the sensor: NVIDIA states +-5 %."""
_LONGEST_STEP_S = 1.0
"""Two power readings further apart than this are not joined by a line."""
_UNKNOWN_LIMIT_W = 1000.0
_FOREIGN_CHECK_S = 10.0


class _Gpu:
    """Energy of one board: its counter, or its power integrated."""

    def __init__(self, lib: Any, gpu: VisibleGpu) -> None:
        self._lib = lib
        self.handle = gpu.handle
        self.uuid = gpu.uuid
        self.energy_j = self.covered_s = 0.0
        self.is_mig = gpu.is_mig
        self.is_shared = gpu.is_mig
        self._shared_j = self._checked_j = 0.0
        self.limit_w = self._find_limit_w()
        self.is_counter = self._has_counter()
        self._last_t_ns = 0
        self._last = 0.0

    def start(self, t_ns: int) -> None:
        """Take the present counter or power as the first."""
        self._last_t_ns, self._last = t_ns, self._value()

    def advance(self, t_ns: int) -> float:
        """Add the energy since the last read; return the seconds lost."""
        elapsed_s = (t_ns - self._last_t_ns) * 1e-9
        value, before = self._value(), self._last
        self._last_t_ns, self._last = t_ns, value
        if self.is_counter:
            step_j = value - before
            # Backwards: the driver was reloaded. Beyond twice the limit: a glitch. Neither is energy.
            is_lost = step_j < 0.0 or step_j > 2.0 * self.limit_w * (elapsed_s + 2.0 * _PERIOD_S)
        else:
            step_j = 0.5 * (before + value) * elapsed_s
            is_lost = elapsed_s > _LONGEST_STEP_S
        if is_lost:
            return elapsed_s
        self.energy_j += step_j
        self.covered_s += elapsed_s
        return 0.0

    def mark(self, *, is_shared: bool) -> None:
        """Note whether others are here; if so at either end, all since the last look counts as shared."""
        if is_shared or self.is_shared:
            self._shared_j += self.energy_j - self._checked_j
        self._checked_j = self.energy_j
        self.is_shared = is_shared

    def bounds(self) -> Interval:
        """Return the energy with its k=2 interval; what others may have used too has a lower bound of 0."""
        mean_w = self.energy_j / self.covered_s if self.covered_s > 0.0 else 0.0
        most_w = max(self.limit_w, mean_w)
        half_width_j = expanded_j(
            quantisation_u_j(most_w, period_s=_PERIOD_S),
            _GAIN_U * self.energy_j,
            coverage_u_j(mean_w, max_w=most_w, period_s=_PERIOD_S, duration_s=self.covered_s),
        )
        shared_j = self._shared_j + (self.energy_j - self._checked_j if self.is_shared else 0.0)
        around = Interval.around(self.energy_j, half_width=half_width_j)
        return Interval(self.energy_j, max(0.0, around.lo - shared_j), around.hi)

    @property
    def tier(self) -> Tier:
        """Return the tier of all that was counted."""
        own = Tier.MEASURED if self.is_counter else Tier.SAMPLED
        return Tier.SHARED if self.is_shared or self._shared_j > 0.0 else own

    def _value(self) -> float:
        """Return the counter [J] or the power [W]."""
        if self.is_counter:
            return float(self._lib.nvmlDeviceGetTotalEnergyConsumption(self.handle)) * 1e-3
        return self._power_w()

    def _power_w(self) -> float:
        # GetPowerUsage is a 1-second mean on some boards, instantaneous on others; the field says which.
        try:
            request = [(self._lib.NVML_FI_DEV_POWER_INSTANT, self._lib.NVML_POWER_SCOPE_GPU)]
            field = self._lib.nvmlDeviceGetFieldValues(self.handle, request)[0]
            if field.nvmlReturn == 0:
                return float(field.value.uiVal) * 1e-3
        except (self._lib.NVMLError, AttributeError):
            pass
        return float(self._lib.nvmlDeviceGetPowerUsage(self.handle)) * 1e-3

    def _has_counter(self) -> bool:
        try:
            self._lib.nvmlDeviceGetTotalEnergyConsumption(self.handle)
        except (self._lib.NVMLError, AttributeError):
            return False
        return True

    def _find_limit_w(self) -> float:
        try:
            return float(self._lib.nvmlDeviceGetEnforcedPowerLimit(self.handle)) * 1e-3
        except (self._lib.NVMLError, AttributeError):
            return _UNKNOWN_LIMIT_W


class NvmlSource:
    """Sum of the boards this run uses, each once, keyed by UUID."""

    name = "nvml"

    def __init__(
        self,
        lib: Any = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        *,
        indices: Sequence[int] | None = None,
        environ: Mapping[str, str] | None = None,
        is_own_pid: Callable[[int], bool | None] | None = None,
    ) -> None:
        """Remember what to meter.

        Args:
            lib: The module `pynvml` of `nvidia-ml-py`, or an object like it; imported when opened if None.
            clock_ns: Monotonic clock [ns].
            indices: Places among the visible devices, as in `cuda:<index>`; all visible ones if None.
            environ: Where `CUDA_VISIBLE_DEVICES` is looked up; the process's environment if None.
            is_own_pid: Whether a process on the device belongs to this run; None means it cannot be told.
        """
        self._lib = lib
        self._clock_ns = clock_ns
        self._indices = indices
        self._environ = os.environ if environ is None else environ
        self._is_own_pid = is_own_pid
        self._gpus: list[_Gpu] = []
        self._is_initialised = False
        self._is_blind = False

    def open(self) -> Capability:
        """Find the devices and take their present counters as zero."""
        self.close()
        lib = self._lib = self._lib or _import_pynvml()
        try:
            lib.nvmlInit()
            self._is_initialised = True
            visible, details = visible_gpus(lib, self._environ, indices=self._indices)
            self._gpus = [_Gpu(lib, gpu) for gpu in visible]
            t_ns = self._clock_ns()
            for gpu in self._gpus:
                gpu.start(t_ns)
        except (lib.NVMLError, AttributeError) as error:
            raise SourceUnavailable(
                f"NVML: {error}",
                remedy="install or reload the NVIDIA driver, or start the container with --gpus all",
            ) from error
        self._lost_s = 0.0
        self._foreign_due_ns = t_ns
        self._look_for_others(t_ns)
        sampled = [gpu.uuid for gpu in self._gpus if not gpu.is_counter]
        details += [f"{uuid} has no energy counter: its power is integrated" for uuid in sampled]
        details += [
            f"{gpu.uuid} is shared with others: an upper bound" for gpu in self._gpus if gpu.is_shared
        ]
        if self._is_blind:
            details.append("NVML does not tell who else computes here: taken as exclusive")
        return Capability(
            source=self.name,
            tier=Tier.worst(gpu.tier for gpu in self._gpus),
            boundary=Boundary.DEVICE,
            components=("gpu",),
            period_s=_PERIOD_S,
            poll_s=_PERIOD_S if sampled else None,
            keys=tuple(gpu.uuid for gpu in self._gpus),
            details=tuple(details),
        )

    def read(self) -> Reading:
        """Read every device."""
        try:
            t_ns = self._clock_ns()
            self._look_for_others(t_ns)
            self._lost_s += max(gpu.advance(t_ns) for gpu in self._gpus)
        except self._lib.NVMLError as error:
            raise SourceError(f"NVML: {error}") from error
        bounds = [gpu.bounds() for gpu in self._gpus]
        return Reading(
            t_ns=t_ns,
            source=self.name,
            tier=Tier.worst(gpu.tier for gpu in self._gpus),
            components_j={"gpu": sum(bound.value for bound in bounds)},
            lo_j=sum(bound.lo for bound in bounds),
            hi_j=sum(bound.hi for bound in bounds),
            lost_s=self._lost_s,
        )

    def close(self) -> None:
        """Give back the library."""
        if self._is_initialised:
            self._is_initialised = False
            with suppress(self._lib.NVMLError):  # the driver may be gone, and all there was to give back
                self._lib.nvmlShutdown()

    def _look_for_others(self, t_ns: int) -> None:
        """Mark devices on which somebody else computes; asking takes time, so it is done every 10 s."""
        if t_ns < self._foreign_due_ns:
            return
        self._foreign_due_ns = t_ns + int(_FOREIGN_CHECK_S * 1e9)
        for gpu in self._gpus:
            foreign = find_foreign_pids(self._lib, gpu.handle, self._is_own_pid)
            self._is_blind = foreign is None
            gpu.mark(is_shared=gpu.is_mig or bool(foreign))


def _import_pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceUnavailable(
            "the Python package nvidia-ml-py is not installed", remedy="pip install nvidia-ml-py"
        ) from error
