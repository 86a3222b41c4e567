"""CUDA graphs: record work once, then launch it whole."""

from __future__ import annotations

import contextlib
import gc
import logging
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from factory.envs.core import graph_break
from factory.runtime import distributed

_log = logging.getLogger(__name__)
T = TypeVar("T")
Launcher = Callable[[Callable[[], Any], Sequence[torch.Generator]], Callable[[], Any]]
"""Takes work and the generators it draws from; returns a callable that does the same, launched as one graph
where that is possible.
"""

EAGER_CALLS = 3
"""Calls before the recording, so that every kernel is loaded and every buffer that is made once exists."""
_PACKAGE = Path(__file__).parents[1]


class CaptureError(RuntimeError):
    """A CUDA graph capture failed, and `runtime.require_cuda_graphs` asks to stop then."""


class _Captures:
    """The recordings of this process, and the reason why it makes no more of them."""

    def __init__(self) -> None:
        self.failure = ""
        """Reason of the first failed capture; empty before."""
        self.recorded: weakref.WeakSet[CudaGraphed[Any]] = weakref.WeakSet()

    def fail(self, reason: str) -> None:
        """Give up CUDA graphs in this process.

        A failed capture may leave torch's allocator in the belief that it still runs, so a second one is not
        safe (https://github.com/pytorch/pytorch/issues/180395). The graphs recorded before draw from
        generator states that the failure replaced: they are dropped, or checkpoints would part from them.
        """
        self.failure = reason
        for graphed in tuple(self.recorded):
            graphed.drop()
        self.recorded.clear()


_captures = _Captures()


def eager(work: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
    """Run the work as it is, operation by operation."""
    return work


def make_launcher(
    device: torch.device, *, capturable: bool, wanted: bool, required: bool = False
) -> tuple[Launcher, str]:
    """Choose how a training job launches its work on `device`.

    Args:
        device: of policy and environments.
        capturable: whether the environment's step can be recorded.
        wanted: `runtime.cuda_graphs`.
        required: `runtime.require_cuda_graphs`.

    Returns:
        The launcher, and one line for the user that says why it makes no graphs; empty if it does, or if
        nobody expects any.

    Raises:
        ValueError: graphs are required, and this job cannot have them.
    """
    if device.type == "cuda" and wanted and capturable:
        return partial(CudaGraphed, required=required), ""
    if device.type != "cuda":
        obstacle = f"device={device.type} has none"
    elif not wanted:
        obstacle = "runtime.cuda_graphs=false"
    else:
        obstacle = "this environment steps outside the GPU"
    if required:
        raise ValueError(f"runtime.require_cuda_graphs=true: no CUDA graphs, for {obstacle}")
    if device.type == "cuda" and wanted:
        return eager, f"no CUDA graphs: {obstacle}"
    return eager, ""


class CudaGraphed(Generic[T]):
    """Work on the GPU that does the same operations on the same memory at every call.

    It must not read from the device, and the next call overwrites its result. The first calls run operation
    by operation on a side stream, as recording asks for
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs); then one is recorded. If that fails,
    a warning names the line, and from then on everything in this process runs operation by operation.
    """

    def __init__(
        self, work: Callable[[], T], generators: Sequence[torch.Generator], *, required: bool = False
    ) -> None:
        """Keep `work`.

        Args:
            work: is recorded.
            generators: that `work` draws from; they advance from launch to launch as from call to call.
            required: raise `CaptureError` if the capture fails.
        """
        self._work = work
        self._generators = generators
        self._required = required
        self._calls = 0
        self._stream: torch.cuda.Stream | None = None
        self._launches: list[Callable[[], None]] = []
        self._result: Any = None

    @property
    def is_recorded(self) -> bool:
        """True if calls are launched as graphs."""
        return bool(self._launches)

    def __call__(self) -> T:
        """Do the work once.

        Raises:
            CaptureError: the recording failed, and it is required.
            PeerLostError: another process of the run ended during the recording.
        """
        self._calls += 1
        if self._calls == EAGER_CALLS + 1 and not _captures.failure:
            self._record()
        if not self._launches:
            with self._side_stream():
                return self._work()
        for launch in self._launches:
            launch()
        return self._result

    def drop(self) -> None:
        """Forget the recording: later calls run operation by operation."""
        self._launches = []
        self._result = None

    def _record(self) -> None:
        torch.cuda.synchronize()
        recording = _Recording(self._generators)
        error: RuntimeError | None = None
        with self._side_stream(), _no_garbage_collection():
            try:
                # What the first calls cached is of no use to the graph, which has a pool of its own.
                torch.cuda.empty_cache()
                with graph_break.handle_graph_breaks(recording.cut):
                    recording.begin()
                    self._result = self._work()
                    recording.end()
            except distributed.PeerLostError:
                recording.abandon()
                raise
            except RuntimeError as caught:
                error = caught
                recording.abandon()
        # A rank that replays collectives must not meet one that launches them.
        if not distributed.any_rank(error is not None):
            self._launches = recording.launches
            _captures.recorded.add(self)
            return
        if error is None:
            reason = "the capture failed in another process"
        else:
            reason = describe(error)
        self._result = None
        _captures.fail(reason)
        if self._required:
            raise CaptureError(f"runtime.require_cuda_graphs=true: {reason}") from error
        _log.warning("no CUDA graphs, operations are launched one by one: %s", reason)
        _log.debug("the capture that failed", exc_info=error)

    @contextlib.contextmanager
    def _side_stream(self) -> Iterator[None]:
        """Put work on this object's stream, in order with the work on the current one before and after.

        One stream for warm-up and capture: memory is cached by stream, and cuBLAS keeps a workspace for each,
        which must exist before the capture. Never one stream for two recordings: the end of a graph frees
        the workspace of its stream, and the other graph would go on using it
        (https://github.com/pytorch/pytorch/issues/193402).
        """
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)


class _Recording:
    """Graphs in one pool of memory, and between them the launches that no graph can hold."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.launches: list[Callable[[], None]] = []
        self._generators = generators
        self._pool = torch.cuda.graph_pool_handle()
        self._graph: torch.cuda.CUDAGraph | None = None

    def begin(self) -> None:
        """Begin a graph."""
        graph = torch.cuda.CUDAGraph()
        # Since torch 2.13 a capture finds the generators itself, and later versions may drop the method.
        if hasattr(graph, "register_generator_state"):
            for generator in self._generators:
                graph.register_generator_state(generator)
        # Other threads, such as NCCL's and the tracker's, may call CUDA meanwhile.
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
        """Leave a capture that failed, so that work can run operation by operation again."""
        graph = self._graph
        self._graph = None
        if graph is not None:
            with contextlib.suppress(RuntimeError):
                graph.capture_end()
        # Up to torch 2.12 every capture marks the default generator, too.
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        for generator in (*self._generators, default):
            _release(generator)


def _release(generator: torch.Generator) -> None:
    """Give a generator another state with the same numbers: its own believes that a capture still runs."""
    generator.graphsafe_set_state(generator.clone_state())


def describe(error: BaseException) -> str:
    """Return an error in one line, with the last line of this package that it passed."""
    message = " ".join(str(error).split())[:200] or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    # The lines of this file say nothing: they begin and end the graphs around the line that failed.
    own = [
        frame for frame in frames if _PACKAGE in Path(frame.filename).parents and frame.filename != __file__
    ]
    if not own:
        return message
    return f"{message} ({own[-1].filename}:{own[-1].lineno}, in {own[-1].name})"


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage before the block and none in it: no old graph or event may be freed in a capture."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
