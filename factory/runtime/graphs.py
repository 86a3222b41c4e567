"""CUDA graphs: work that is recorded once and from then on launched whole."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch

from factory.envs.core import graph_break

_log = logging.getLogger(__name__)
T = TypeVar("T")
Launcher = Callable[[Callable[[], Any], Sequence[torch.Generator]], Callable[[], Any]]
"""Takes work and the generators it draws from; returns what does the same, launched as one where that is
possible.
"""

EAGER_CALLS = 3
"""Calls before the recording, so that every kernel is loaded and every buffer that is made once exists."""


def eager(work: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
    """Run the work as it is, operation by operation."""
    return work


def make_launcher(device: torch.device, *, capturable: bool, wanted: bool) -> tuple[Launcher, str]:
    """Return how work of a line is launched on `device`, and a line why it is not as a graph, empty if it is.

    Args:
        device: of policy and worlds.
        capturable: whether the environment's step can be recorded.
        wanted: `runtime.cuda_graphs`.
    """
    if device.type != "cuda" or not wanted:
        return eager, ""
    if not capturable:
        return eager, "no CUDA graphs: this environment steps outside the GPU"
    return CudaGraphed, ""


class CudaGraphed(Generic[T]):
    """Work on the GPU that is the same operations on the same memory at every call.

    It must not read from the device, and what it returns is overwritten by the next call. The first calls run
    operation by operation, on a stream of their own as recording asks for
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs); then it is recorded. Where that fails,
    a warning says why, and calls stay as they were.
    """

    def __init__(self, work: Callable[[], T], generators: Sequence[torch.Generator]) -> None:
        """Keep `work`; `generators` go on from launch to launch, as they would from call to call."""
        self._work = work
        self._generators = generators
        self._calls = 0
        self._launches: list[Callable[[], None]] = []
        self._result: Any = None

    @property
    def is_recorded(self) -> bool:
        """Whether calls are launched as graphs."""
        return bool(self._launches)

    def __call__(self) -> T:
        """Do the work once."""
        self._calls += 1
        if self._calls == EAGER_CALLS + 1:
            self._record()
        if not self._launches:
            return self._run_aside()
        for launch in self._launches:
            launch()
        return self._result

    def _run_aside(self) -> T:
        with _side_stream():
            return self._work()

    def _record(self) -> None:
        torch.cuda.synchronize()
        # No old graph or event may be freed during a capture.
        gc.collect()
        torch.cuda.empty_cache()
        recording = _Recording(self._generators)
        with _side_stream():
            try:
                with graph_break.handle_graph_breaks(recording.cut):
                    recording.begin()
                    self._result = self._work()
                    recording.end()
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:200]
                _log.warning("not launched as a CUDA graph, but operation by operation: %s", reason)
                recording.abandon()
            else:
                self._launches = recording.launches


class _Recording:
    """Graphs in one pool of memory, and between them the launches of work that is in none of them."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.launches: list[Callable[[], None]] = []
        self._generators = generators
        self._pool = torch.cuda.graph_pool_handle()
        self._graph: torch.cuda.CUDAGraph | None = None

    def begin(self) -> None:
        """Begin a graph."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # Other threads, such as NCCL's and a tracker's, may go on meanwhile.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        self._graph = graph

    def end(self) -> None:
        """Keep the graph."""
        graph = self._graph
        self._graph = None
        assert graph is not None
        graph.capture_end()
        self.launches.append(graph.replay)

    def cut(self, prepare: Callable[[], Callable[[], None]]) -> None:
        """Put a launch after the graph, and begin the next."""
        self.end()
        self.launches.append(prepare())
        self.begin()

    def abandon(self) -> None:
        """Leave a capture that failed, so that work can be done operation by operation again."""
        if self._graph is not None:
            with contextlib.suppress(RuntimeError):
                self._graph.capture_end()
        # The generators still believe that they are being captured.
        for generator in self._generators:
            generator.graphsafe_set_state(generator.clone_state())


@contextlib.contextmanager
def _side_stream() -> Iterator[None]:
    """Put work on a stream of its own, in order with what is on the current one before and after."""
    stream = torch.cuda.Stream()
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)
