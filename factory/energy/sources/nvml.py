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
from typing import TYPE_CHECKING, Any, Self

from factory.energy.claim import Scope
from factory.energy.sources.base import EnergySource, SourceError, SourceUnavailable
from factory.energy.sources.nvml_board import PERIOD_S, Board
from factory.energy.sources.nvml_devices import find_foreign_pids, visible_gpus
from factory.energy.types import Boundary, Capability, Reading, Tier

if TYPE_CHECKING:
    from factory.energy.config import EnergyConfig

_FOREIGN_CHECK_S = 10.0
"""Time between two checks for other processes, each of which takes milliseconds [s]."""


class NvmlSource(EnergySource):
    """Sum of the boards this run uses, each once, identified by UUID."""

    name = "nvml"
    title = "NVML"
    components = ("gpu",)

    def __init__(
        self,
        lib: Any = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        *,
        indices: Sequence[int] | None = None,
        environ: Mapping[str, str] | None = None,
        is_own_pid: Callable[[int], bool | None] | None = None,
    ) -> None:
        """Keep the settings; the library is loaded when the source is opened.

        Args:
            lib: A module like `pynvml`; the installed one if None.
            clock_ns: Monotonic clock [ns].
            indices: Positions among the devices that this process may see; all of them if None.
            environ: Environment that holds `CUDA_VISIBLE_DEVICES`; the process's own if None.
            is_own_pid: Tells whether a process on the device belongs to this run; None means unknown.
        """
        self._lib = lib
        self._clock_ns = clock_ns
        self._indices = indices
        self._environ = os.environ if environ is None else environ
        self._is_own_pid = is_own_pid
        self._boards: list[Board] = []
        self._is_initialised = False
        self._is_blind = False
        """True if NVML does not list the processes on a board."""

    @classmethod
    def from_config(cls, cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Self:
        """Meter the board of this run, those of all its ranks on this host, or all boards for a CPU run."""
        # The meter of a host bills every board, whoever computes on it.
        if cfg.scope == Scope.NODE:
            return cls(environ=environ, is_own_pid=lambda pid: True)
        # Rank 0 meters for its host; each rank trains on the GPU whose number is its local rank.
        world_size = int(environ.get("LOCAL_WORLD_SIZE", "1"))
        indices: list[int] | None = None
        if world_size > 1:
            indices = list(range(world_size))
        elif device.startswith("cuda"):
            _, _, index = device.partition(":")
            indices = [int(index or 0)]
        return cls(environ=environ, indices=indices)

    def open(self) -> Capability:
        """Find the devices and take their present counters as zero."""
        self.close()
        # Reopening after a failure starts from a clean state of the library.
        lib = self._lib = self._lib or _import_pynvml()
        try:
            lib.nvmlInit()
            self._is_initialised = True
            visible, details = visible_gpus(lib, self._environ, indices=self._indices)
            self._boards = [Board(lib, gpu) for gpu in visible]
            t_ns = self._clock_ns()
            for board in self._boards:
                board.start(t_ns)
        except (lib.NVMLError, AttributeError) as error:
            raise SourceUnavailable(
                f"NVML: {error}",
                remedy="install or reload the NVIDIA driver, or start the container with --gpus all",
            ) from error
        self._lost_s = 0.0
        # Look for others at once: the tier shown before the run must already be right.
        self._foreign_due_ns = t_ns
        self._look_for_others(t_ns)
        return self._capability(details)

    def _capability(self, details: list[str]) -> Capability:
        poll_s = None
        for board in self._boards:
            if not board.is_counter:
                # Integration needs a reading in every update period.
                poll_s = PERIOD_S
                details.append(f"{board.uuid} has no energy counter: its power is integrated")
            if board.is_shared:
                details.append(f"{board.uuid} is shared with others: an upper bound")
        if self._is_blind:
            details.append("NVML does not list other processes here: the boards are taken as exclusive")
        return Capability(
            source=self.name,
            tier=Tier.worst(board.tier for board in self._boards),
            boundary=Boundary.DEVICE,
            components=self.components,
            period_s=PERIOD_S,
            poll_s=poll_s,
            keys=tuple(board.uuid for board in self._boards),
            details=tuple(details),
        )

    def read(self) -> Reading:
        """Read every device."""
        try:
            t_ns = self._clock_ns()
            self._look_for_others(t_ns)
            # Boards that fail together lose the same time, which counts once.
            self._lost_s += max(board.advance(t_ns) for board in self._boards)
        except self._lib.NVMLError as error:
            raise SourceError(f"NVML: {error}") from error
        # Bound to bound: boards of one kind share their sensor's gain error.
        bounds = [board.bounds() for board in self._boards]
        return Reading(
            t_ns=t_ns,
            source=self.name,
            tier=Tier.worst(board.tier for board in self._boards),
            components_j={"gpu": sum(bound.value for bound in bounds)},
            lo_j=sum(bound.lo for bound in bounds),
            hi_j=sum(bound.hi for bound in bounds),
            lost_s=self._lost_s,
        )

    def devices_j(self) -> dict[str, float]:
        """Return the energy of every board, as it was last read [J]."""
        return {board.uuid: board.energy_j for board in self._boards}

    def position(self) -> dict[str, float]:
        """Return the last values of every board."""
        values: dict[str, float] = {}
        for board in self._boards:
            values |= board.position()
        return values

    def seek(self, position: Mapping[str, float]) -> None:
        """Go on from earlier counters."""
        for board in self._boards:
            board.seek(position)

    def close(self) -> None:
        """Release the library."""
        if not self._is_initialised:
            return
        self._is_initialised = False
        # The driver may be gone, and everything with it.
        with suppress(self._lib.NVMLError):
            self._lib.nvmlShutdown()

    def _look_for_others(self, t_ns: int) -> None:
        """Mark the boards that other processes compute on."""
        if t_ns < self._foreign_due_ns:
            return
        self._foreign_due_ns = t_ns + int(_FOREIGN_CHECK_S * 1e9)
        self._is_blind = False
        for board in self._boards:
            # Without a list of processes the board counts as exclusive, and a remark says so: calling every
            # such board shared would make its lower bound useless.
            foreign = find_foreign_pids(self._lib, board.handle, self._is_own_pid)
            self._is_blind = self._is_blind or foreign is None
            board.mark(is_shared=board.is_mig or bool(foreign))


def _import_pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceUnavailable(
            "the Python package nvidia-ml-py is not installed", remedy="pip install nvidia-ml-py"
        ) from error
