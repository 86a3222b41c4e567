"""CUDA graphs: work that is recorded once and from then on launched whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")
Record = Callable[[Callable[[], Any], Sequence[torch.Generator]], Callable[[], Any]]
"""Takes work and the generators it draws from; returns what does the same, launched as one where that is possible."""

_EAGER_CALLS = 3
"""Calls before the recording, so that every kernel is loaded and every buffer that is made once exists."""


def eager(work: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
    """Run the work as it is, operation by operation."""
    return work


def recorder(device: torch.device, *, capturable: bool, wanted: bool) -> tuple[Record, str]:
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
    return Graphed, ""


class Graphed(Generic[T]):
    """Work on the GPU that is the same operations on the same memory at every call.

    It must not read from the device, and what it returns is overwritten by the next call. The first calls run
    operation by operation, on a stream of their own as recording asks for
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs); then it is recorded. Where that fails, a
    warning says why, and calls stay as they were.
    """

    def __init__(self, work: Callable[[], T], generators: Sequence[torch.Generator]) -> None:
        """Keep `work`; `generators` go on from launch to launch, as they would from call to call."""
        self._work, self._generators = work, generators
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Any = None

    def __call__(self) -> T:
        """Do the work once."""
        self._calls += 1
        if self._calls == _EAGER_CALLS + 1:
            self._record()
        if self._graph is None:
            return self._run_aside()
        self._graph.replay()
        return self._result

    def _run_aside(self) -> T:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._work()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph):
                self._result = self._work()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            logging.getLogger(__name__).warning("not launched as a CUDA graph, but operation by operation: %s", reason)
        else:
            self._graph = graph
