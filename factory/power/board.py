"""Settings of a GPU board, through NVML.

They outlive the process, so each is in the journal before it is written.

Reference: NVML API, device commands and power profiles. The setters ask for root or CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from factory.power.actuator import Actuator, Applied, Refused
from factory.power.config import ProfileConfig
from factory.power.journal import Entry, Page

_MASK_WORDS = 8
_WORD_BITS = 32


@dataclass(frozen=True)
class Board:
    """A board as NVML knows it."""

    lib: Any
    """NVML, initialised: a module like `pynvml`."""
    handle: Any
    uuid: str


class BoardActuator(Actuator):
    """One setting of a board, with a page of the journal."""

    can_read: ClassVar[bool] = True
    """True if NVML tells the present value, not only the one in force."""

    def __init__(self, board: Board, page: Page | None = None) -> None:
        """Name the board, and its page of the journal; without one, the setting can only be looked at."""
        self._lib = board.lib
        self._handle = board.handle
        self._uuid = board.uuid
        self._own_page = page

    def available(self) -> bool:
        """Tell whether the board has the setting."""
        try:
            with self._refusals():
                self.read()
        except Refused:
            return False
        return True

    @property
    def _page(self) -> Page:
        if self._own_page is None:
            raise Refused(f"{self.name} of {self._uuid}: nothing is changed without a journal")
        return self._own_page

    def apply(self, cfg: ProfileConfig) -> Applied:
        """Journal the present value, write the new one, and read back what the board made of it."""
        with self._refusals():
            original = self.read()
            asked = self.target(cfg, original)
        if asked != original:
            self._change(Entry(device_uuid=self._uuid, actuator=self.name, original=original, asked=asked))
        with self._refusals():
            return Applied(actuator=self.name, asked=self.show(asked), enforced=self.enforced())

    def _change(self, entry: Entry) -> None:
        # Journal first: a process that is killed between the two lines can still be cleaned up after.
        self._page.write(entry)
        try:
            with self._refusals():
                self.write(entry.asked)
        except Refused:
            # A setter that fails changes nothing.
            self._page.remove()
            raise
        try:
            with self._refusals():
                written = self.read()
            self._page.write(replace(entry, written=written, is_read_back=True))
        except Refused:
            self.put_back(entry)
            raise

    def restore(self) -> None:
        """Put back the value of the journal, unless another program has changed the setting since."""
        entry = self._page.read()
        if entry is not None:
            self.put_back(entry)

    def put_back(self, entry: Entry) -> str:
        """Write the original value of an entry, check it, and remove the entry.

        Returns:
            The outcome, to complete a sentence about the setting.

        Raises:
            Refused: the board has another value still; the entry stays.
        """
        with self._refusals():
            present = self.read()
            # Putting back the original would undo a decision that is newer than ours.
            if self.can_read and entry.is_read_back and present != entry.written:
                self._page.remove()
                return f"was changed by another program since, and stays: {self.show(present)}"
            if not self.can_read or present != entry.original:
                self.write(entry.original)
                present = self.read()
        if present != entry.original:
            wanted = self.show(entry.original)
            text = f"{wanted} was to be put back, the board keeps {self.show(present)}"
            raise Refused(f"{self.name} of {self._uuid}: {text}")
        self._page.remove()
        return f"is back: {self.show(present)}"

    @abstractmethod
    def target(self, cfg: ProfileConfig, original: Any) -> Any:
        """Return the value that a profile asks for, given the present one; plain, as JSON has it.

        Raises:
            Refused: the board cannot have it.
        """

    @abstractmethod
    def read(self) -> Any:
        """Return the present value of the setting."""

    @abstractmethod
    def write(self, value: Any) -> None:
        """Set the value."""

    @abstractmethod
    def enforced(self) -> str:
        """Return the value that the board keeps to, for people."""

    @abstractmethod
    def show(self, value: Any) -> str:
        """Return a value for people."""

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn an error of NVML into a refusal."""
        try:
            yield
        # A function that this version of the package lacks is an AttributeError.
        except (self._lib.NVMLError, AttributeError) as error:
            raise Refused(f"{self.name} of {self._uuid}: {error}") from error


class WorkloadProfile(BoardActuator):
    """NVIDIA's workload power profile: clocks, limits and links tuned together (Blackwell, driver 570)."""

    name = "workload_profile"

    @classmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether the profile names one."""
        return cfg.workload_profile >= 0

    def target(self, cfg: ProfileConfig, original: list[int]) -> list[int]:
        """Return the requested profiles with the wanted one among them."""
        wanted = cfg.workload_profile
        known = _ids(self._current().perfProfilesMask)
        if wanted not in known:
            raise Refused(f"{self.name} of {self._uuid}: the board has no {wanted}, only {known}")
        return sorted({*original, wanted})

    def read(self) -> list[int]:
        """Return the ids of the requested profiles."""
        return _ids(self._current().requestedProfilesMask)

    def write(self, value: list[int]) -> None:
        """Request these profiles and no others."""
        present = set(self.read())
        lib = self._lib
        self._request(lib.nvmlDeviceWorkloadPowerProfileClearRequestedProfiles, present - set(value))
        self._request(lib.nvmlDeviceWorkloadPowerProfileSetRequestedProfiles, set(value) - present)

    def enforced(self) -> str:
        """Return the ids in force: the firmware arbitrates between requests by priority and conflict."""
        return self.show(_ids(self._current().enforcedProfilesMask))

    def show(self, value: list[int]) -> str:
        """Return the ids."""
        return ",".join(map(str, value)) or "none"

    def _current(self) -> Any:
        status = self._lib.c_nvmlWorkloadPowerProfileCurrentProfiles_v1_t()
        self._lib.nvmlDeviceWorkloadPowerProfileGetCurrentProfiles(self._handle, ctypes.byref(status))
        return status

    def _request(self, function: Any, ids: set[int]) -> None:
        if not ids:
            return
        request = self._lib.c_nvmlWorkloadPowerProfileRequestedProfiles_v1_t()
        for number in ids:
            # A mask of 255 bits in 32-bit words.
            word, bit = divmod(number, _WORD_BITS)
            request.requestedProfilesMask.mask[word] |= 1 << bit
        function(self._handle, ctypes.byref(request))


class LockedClocks(BoardActuator):
    """Highest clock of the GPU's cores.

    NVML does not tell whether clocks are locked, only whether something of the kind limits them just now. A
    board that is limited so already is left alone, since its lock could not be put back.
    """

    name = "locked_clocks"
    can_read = False

    @classmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether the profile lowers the clock."""
        return cfg.clock_share < 1.0

    def target(self, cfg: ProfileConfig, original: None) -> list[int]:
        """Return the lowest clock, and the highest that is within the share of the maximum [MHz]."""
        lib = self._lib
        # Core clocks are listed for each memory clock; boards compute at the highest one.
        memory_mhz = max(lib.nvmlDeviceGetSupportedMemoryClocks(self._handle))
        supported = lib.nvmlDeviceGetSupportedGraphicsClocks(self._handle, memory_mhz)
        most_mhz = cfg.clock_share * max(supported)
        lowest_mhz = min(supported)
        return [lowest_mhz, max((clock for clock in supported if clock <= most_mhz), default=lowest_mhz)]

    def read(self) -> None:
        """Return None, the value of clocks that are not locked."""
        return None

    def available(self) -> bool:
        """Tell whether the board lists its clocks, and no other program limits them."""
        try:
            with self._refusals():
                self._check_free()
                self._lib.nvmlDeviceGetSupportedMemoryClocks(self._handle)
        except Refused:
            return False
        return True

    def apply(self, cfg: ProfileConfig) -> Applied:
        """Lock the clocks, unless they are limited already."""
        with self._refusals():
            self._check_free()
        return super().apply(cfg)

    def write(self, value: list[int] | None) -> None:
        """Lock the clocks between two bounds [MHz], or unlock them."""
        if value is None:
            self._lib.nvmlDeviceResetGpuLockedClocks(self._handle)
        else:
            self._lib.nvmlDeviceSetGpuLockedClocks(self._handle, *value)

    def enforced(self) -> str:
        """Return the clock of this moment."""
        return f"{self._lib.nvmlDeviceGetClockInfo(self._handle, self._lib.NVML_CLOCK_SM)} MHz now"

    def show(self, value: list[int] | None) -> str:
        """Return the upper bound."""
        if value is None:
            return "no lock"
        return f"at most {value[1]} MHz"

    def _check_free(self) -> None:
        reasons = self._lib.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        if reasons & self._lib.nvmlClocksEventReasonUserDefinedClocks:
            raise Refused(f"{self.name} of {self._uuid}: another program limits the clocks already")


class PowerLimit(BoardActuator):
    """Power limit of the board, which is only ever lowered."""

    name = "power_limit"

    @classmethod
    def asks(cls, cfg: ProfileConfig) -> bool:
        """Tell whether the profile limits the power."""
        return cfg.power_share < 1.0 or cfg.watts > 0.0

    def target(self, cfg: ProfileConfig, original: int) -> int:
        """Return the lowest limit that applies, within the range of the board [mW]."""
        least_mw, _ = self._lib.nvmlDeviceGetPowerManagementLimitConstraints(self._handle)
        limits_mw = [original]
        if cfg.power_share < 1.0:
            default_mw = self._lib.nvmlDeviceGetPowerManagementDefaultLimit(self._handle)
            limits_mw.append(round(cfg.power_share * default_mw))
        if cfg.watts > 0.0:
            limits_mw.append(round(cfg.watts * 1e3))
        # A limit of whoever runs the machine is never raised.
        return min(original, max(least_mw, min(limits_mw)))

    def read(self) -> int:
        """Return the limit that was set [mW]."""
        return int(self._lib.nvmlDeviceGetPowerManagementLimit(self._handle))

    def write(self, value: int) -> None:
        """Set the limit [mW]."""
        self._lib.nvmlDeviceSetPowerManagementLimit(self._handle, value)

    def enforced(self) -> str:
        """Return the least of all limits of the board."""
        return self.show(self._lib.nvmlDeviceGetEnforcedPowerLimit(self._handle))

    def show(self, value: int) -> str:
        """Return watts."""
        return f"{value * 1e-3:g} W"


def _ids(mask: Any) -> list[int]:
    """Return the numbers of the bits that are set in a mask of 255."""
    return [
        word * _WORD_BITS + bit
        for word in range(_MASK_WORDS)
        for bit in range(_WORD_BITS)
        if mask.mask[word] >> bit & 1
    ]
