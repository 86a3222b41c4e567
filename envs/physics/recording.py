"""Warp work that is captured once and replayed in order with torch's."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator

import torch
import warp as wp

from factory.envs.core import graph_break
from factory.runtime.awake_time import awake_s

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0
"""Compilation is reported when it takes longer [s]."""


class Recorder:
    """Runs functions that launch Warp kernels, each from a recording made when its name is first met.

    Nothing is launched from Python kernel by kernel then, nothing is allocated, and the host never waits:
    launched one by one, a loop on the device such as a solver's would ask after every iteration whether to go
    on.

    Inside a capture by torch the recording stays a launch of its own, between two graphs, if the capture
    allows graph breaks (`factory.envs.core.graph_break`). Otherwise (`torch.cuda.graph`) the kernels become
    part of that capture. It holds addresses and cannot load kernels, so every call must have been made once
    before the capture.

    Raises:
        ValueError: the GPU cannot allocate from a memory pool, which a recording needs.
    """

    def __init__(self, device: torch.device) -> None:
        _start_warp()
        # The device of a tensor has an index, `cuda:0`.
        self.place = wp.device_from_torch(torch.empty(0, device=device).device)
        self.clock = Clock(device)
        if device.type == "cuda" and not wp.is_mempool_enabled(self.place):
            raise ValueError(
                f"physics=warp: {self.place.name} allows no memory pools, without which the engine cannot be "
                "recorded; use physics=mujoco, or a GPU and driver with cudaMallocAsync"
            )
        self._device = device
        self._graphs: dict[str, wp.Graph] = {}
        self._in_use_by_torch = False
        """True if one of torch's recordings holds a launch of these graphs."""
        self._streams: dict[int, wp.Stream] = {}
        """Torch's stream handle -> the same stream for Warp, which registers each object with its library."""

    @property
    def can_loop(self) -> bool:
        """True if loops may end by a condition: on a CPU always, in a recording from CUDA 12.4 on."""
        return self._device.type == "cpu" or wp.is_conditional_graph_supported()

    @property
    def joins_capture(self) -> bool:
        """True if work is launched into a capture by torch, and none is replayed."""
        return self._is_captured and not graph_break.can_break()

    @property
    def _is_captured(self) -> bool:
        return self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do `work` on torch's current stream; only the first `work` of a name is ever called."""
        if self.joins_capture:
            with self.ordered() as stream, wp.ScopedCapture(stream=stream, external=True):
                work()
        elif self._is_captured:
            graph_break.graph_break(lambda: self._launch_of(name, work))
            self._in_use_by_torch = True
        else:
            self._launch_of(name, work)()

    def _launch_of(self, name: str, work: Callable[[], None]) -> Callable[[], None]:
        """Return what replays the recording of `name`, which is made unless it is there."""
        if name not in self._graphs:
            # On Warp's own stream: that which torch starts with cannot be recorded.
            with wp.ScopedDevice(self.place), wp.ScopedCapture(self.place) as recording:
                work()
            self._graphs[name] = recording.graph
        graph = self._graphs[name]

        def launch() -> None:
            with self.ordered():
                wp.capture_launch(graph)

        return launch

    def forget(self) -> None:
        """Drop all recordings, because arrays that they use have been replaced.

        Raises:
            RuntimeError: a recording of torch's would go on with the old arrays, without any effect.
        """
        if self._in_use_by_torch:
            raise RuntimeError(
                "physics=warp: fields and model fields must be asked for before the step is recorded as a "
                "CUDA graph; ask for them in the environment's constructor"
            )
        self._graphs.clear()

    @contextlib.contextmanager
    def ordered(self) -> Iterator[wp.Stream | None]:
        """Run the block's Warp kernels in order with torch's before and after it, and time them."""
        if self._device.type == "cpu":
            with wp.ScopedDevice(self.place), self.clock:
                yield None
            return
        torch_stream = torch.cuda.current_stream(self._device)
        # Events in a capture have no time. Nothing of Warp's own stream is waited for: a capture must not.
        clock = contextlib.nullcontext() if self._is_captured else self.clock
        handle = torch_stream.cuda_stream
        if handle not in self._streams:
            self._streams[handle] = wp.stream_from_torch(torch_stream)
        with wp.ScopedStream(self._streams[handle], sync_enter=False) as stream, clock:
            yield stream


class Clock:
    """Adds up the time of blocks: on a CPU the host's, on a GPU between two events, without waiting."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sum_s = 0.0
        self._start_s = 0.0
        self._pending: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def __enter__(self) -> None:
        if self._device.type == "cpu":
            self._start_s = awake_s()
            return
        # Finished pairs are added up first, so that the queue stays short.
        self.read_s()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(torch.cuda.current_stream(self._device))
        self._pending.append((start, end))

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cpu":
            self._sum_s += awake_s() - self._start_s
        else:
            self._pending[-1][1].record(torch.cuda.current_stream(self._device))

    def read_s(self) -> float:
        """Return the sum of the blocks that are over [s]."""
        while self._pending and self._pending[0][1].query():
            start, end = self._pending.popleft()
            self._sum_s += 1e-3 * start.elapsed_time(end)
        return self._sum_s


def _start_warp() -> None:
    """Start Warp without its greeting, which its library prints past Python where there is no GPU driver."""
    wp.config.log_level = wp.LOG_WARNING
    if torch.cuda.is_available():
        wp.init()
        return
    # The greeting comes from C, so Python's `sys.stderr` cannot hold it back: the file descriptor is swapped.
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        wp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Report that kernels are being compiled, once it takes long."""
    text = "physics=warp: compiling kernels for this robot (up to a minute, then cached in %s)"
    timer = threading.Timer(_PATIENCE_S, _log.warning, (text, wp.config.kernel_cache_dir))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
