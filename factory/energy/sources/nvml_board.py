"""Energy of one GPU board: from its counter, or from its power integrated over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.energy.sources.nvml_devices import VisibleGpu
from factory.energy.types import Interval, Tier
from factory.energy.uncertainty import coverage_u_j, expanded_j, quantisation_u_j

PERIOD_S = 0.1
"""Update period of counter and power sensor: about 100 ms (ML.ENERGY, thermally stable profiling)."""
_GAIN_U = 0.05
"""Relative standard uncertainty of the sensor: NVIDIA states +-5 %."""
_LONGEST_STEP_S = 1.0
"""Two power readings further apart than this are not joined by a line."""
_UNKNOWN_LIMIT_W = 1000.0
"""Power limit assumed for a board that does not report its own: more than any board of today."""
_GLITCH_FACTOR = 2.0
"""A step beyond this multiple of the power limit is an error of the counter; boards overshoot by less."""


class Board:
    """Energy of one board since `start`, with its bounds."""

    def __init__(self, lib: Any, gpu: VisibleGpu) -> None:
        self._lib = lib
        self.handle = gpu.handle
        self.uuid = gpu.uuid
        self.is_mig = gpu.is_mig
        self.is_shared = gpu.is_mig
        self.energy_j = 0.0
        self.covered_s = 0.0
        self.limit_w = self._find_limit_w()
        self.is_counter = self._has_counter()
        self._shared_j = 0.0
        """Energy counted while other processes were on the board [J]."""
        self._checked_j = 0.0
        """Energy at the last look for other processes [J]."""
        self._last_t_ns = 0
        self._last = 0.0
        """Last counter [J] or last power [W]."""

    def start(self, t_ns: int) -> None:
        """Take the present counter or power as the first."""
        self._last_t_ns = t_ns
        self._last = self._value()

    def position(self) -> dict[str, float]:
        """Return counter [J] or power [W] and time of the last read."""
        return {f"{self.uuid}": self._last, f"{self.uuid} t_ns": float(self._last_t_ns)}

    def seek(self, position: Mapping[str, float]) -> None:
        """Go on from an earlier counter; power that nobody read cannot be integrated and is lost."""
        if {self.uuid, f"{self.uuid} t_ns"} <= position.keys():
            self._last = position[self.uuid]
            self._last_t_ns = int(position[f"{self.uuid} t_ns"])

    def advance(self, t_ns: int) -> float:
        """Add the energy since the last read; return the seconds lost."""
        # Both branches work on the step since the last read, whose end becomes the next start in any case.
        elapsed_s = (t_ns - self._last_t_ns) * 1e-9
        value = self._value()
        before = self._last
        self._last_t_ns = t_ns
        self._last = value
        if self.is_counter:
            step_j = value - before
            # Backwards: the driver was reloaded. Far beyond the limit: a glitch. Neither is energy.
            most_j = _GLITCH_FACTOR * self.limit_w * (elapsed_s + 2.0 * PERIOD_S)
            is_lost = step_j < 0.0 or step_j > most_j
        else:
            # Trapezoidal rule: E = (P0 + P1) / 2 * t.
            step_j = 0.5 * (before + value) * elapsed_s
            is_lost = elapsed_s > _LONGEST_STEP_S
        if is_lost:
            return elapsed_s
        self.energy_j += step_j
        self.covered_s += elapsed_s
        return 0.0

    def mark(self, *, is_shared: bool) -> None:
        """Record whether other processes use the board now.

        If they do now or did at the last check, all energy in between counts as shared, since the moment of
        the change is unknown.
        """
        if is_shared or self.is_shared:
            self._shared_j += self.energy_j - self._checked_j
        self._checked_j = self.energy_j
        self.is_shared = is_shared

    def bounds(self) -> Interval:
        """Return the energy with its k = 2 interval.

        Energy that others may have used has a lower bound of 0.
        """
        # Bhatia-Davis needs the mean and the largest power; boards briefly exceed their limit.
        mean_w = 0.0
        if self.covered_s > 0.0:
            mean_w = self.energy_j / self.covered_s
        most_w = max(self.limit_w, mean_w)
        # Three independent errors: the update period at both ends, the sensor's gain, and the part of each
        # period that the sensor does not sample.
        half_width_j = expanded_j(
            quantisation_u_j(most_w, period_s=PERIOD_S),
            _GAIN_U * self.energy_j,
            coverage_u_j(mean_w, max_w=most_w, period_s=PERIOD_S, duration_s=self.covered_s),
        )
        own = Interval.around(self.energy_j, half_width=half_width_j)
        # The time since the last check for other processes has not been judged yet.
        shared_j = self._shared_j
        if self.is_shared:
            shared_j += self.energy_j - self._checked_j
        return Interval(self.energy_j, max(0.0, own.lo - shared_j), own.hi)

    @property
    def tier(self) -> Tier:
        """Return the tier of everything that was counted."""
        if self.is_shared or self._shared_j > 0.0:
            return Tier.SHARED
        if self.is_counter:
            return Tier.MEASURED
        return Tier.SAMPLED

    def _value(self) -> float:
        """Return the counter [J] or the power [W]."""
        if self.is_counter:
            return float(self._lib.nvmlDeviceGetTotalEnergyConsumption(self.handle)) * 1e-3
        return self._power_w()

    def _power_w(self) -> float:
        # GetPowerUsage is a 1-second mean on some boards and instantaneous on others; the field is always
        # instantaneous where it exists.
        try:
            request = [(self._lib.NVML_FI_DEV_POWER_INSTANT, self._lib.NVML_POWER_SCOPE_GPU)]
            field = self._lib.nvmlDeviceGetFieldValues(self.handle, request)[0]
            # NVML reports a missing field through its own code, not through an exception; the unit is mW.
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
