"""A guard that refuses what a CUDA graph cannot hold, on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from factory.envs.core.episode_env import EpisodeEnv

_HOST = {"item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__int__", "__float__", "__index__"}
"""Methods of a tensor that make the host wait for the device."""
_WAITING = {"_local_scalar_dense", "is_nonzero", "equal", "lift_fresh"}
"""Operators that do; `lift_fresh` is behind `torch.tensor`, which copies from the host."""
_SHAPES = {"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "bincount", "argwhere"}
"""Operators whose result has as many elements as the values say."""


class GraphUnsafeError(AssertionError):
    """Something was done that a CUDA graph cannot hold."""


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _HOST:
            raise GraphUnsafeError(f"Tensor.{name} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _WAITING:
            raise GraphUnsafeError(f"{func} makes the host wait for the device")
        if name in _SHAPES or (
            name == "repeat_interleave" and isinstance(args[0], torch.Tensor) and len(args) == 1
        ):
            raise GraphUnsafeError(f"{func} has a shape that depends on values")
        if name in ("index", "index_put", "index_put_", "_unsafe_index") and any(
            _is_mask(index) for index in args[1]
        ):
            raise GraphUnsafeError(
                f"{func} is given a mask, so that a shape depends on values; use torch.where"
            )
        return func(*args, **(kwargs or {}))


def check_graph_safety(env: EpisodeEnv, *, num_steps: int = 3) -> None:
    """Step an environment under the guard, its CPU engine and the shortcuts of a CPU left out.

    Build it with `max_episode_steps=2`, so that episodes end and restart on these steps.

    Args:
        env: an environment on the CPU, built for this check alone; it is closed.
        num_steps: control steps.

    Raises:
        GraphUnsafeError: a step does what a CUDA graph cannot hold; the traceback leads to the line.
    """
    env.reset(seed=0)
    action = torch.from_numpy(env.action_space.sample())
    # As before a capture: fields are fetched at the first step.
    env.step(action)
    env._reads_values = False
    engine = getattr(env, "physics", None)
    if engine is not None:
        for name in ("step", "reset", "forward", "rays"):
            setattr(engine, name, _without_guard(getattr(engine, name)))
    with graph_safe():
        for _ in range(num_steps):
            env.step(action)
    env.close()


def _without_guard(call: Callable[..., Any]) -> Callable[..., Any]:
    def unguarded_call(*args: Any, **kwargs: Any) -> Any:
        with unguarded():
            return call(*args, **kwargs)

    return unguarded_call


@contextlib.contextmanager
def graph_safe() -> Iterator[None]:
    """Raise `GraphUnsafeError` at what waits for the device or makes a shape depend on values."""
    with _Methods(), _Operators():
        yield


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Lift the guard, for a part that is not meant to be in a graph."""
    with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
        yield


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
