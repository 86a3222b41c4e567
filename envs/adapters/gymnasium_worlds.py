"""The worlds of a registered environment: finding, batching and wrapping them, and describing failures."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from factory.envs.core.errors import WorldError
from factory.envs.rendering import RenderingUnavailableError
from factory.registry import load

Wrap = Callable[[gymnasium.Env], gymnasium.Env]

_PLACE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def find_spec(env_id: str) -> EnvSpec:
    """Return the registration of `env_id`, after importing the module that `module:Id` names."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    return gymnasium.spec(name)


def choose_batching(spec: EnvSpec, vectorization: str, *, is_wrapped: bool) -> str:
    """Return `sync`, `async` or `vector_entry_point` for a `vectorization` that may be `auto`.

    Raises:
        ValueError: the environment's own batched version was asked for and cannot be used.
    """
    obstacle = _obstacle_to_own_batching(spec, is_wrapped=is_wrapped)
    if vectorization == "auto":
        if obstacle:
            return "sync"
        return "vector_entry_point"
    if vectorization == "vector_entry_point" and obstacle:
        raise ValueError(f"{obstacle}; use task.vectorization=sync or async")
    return vectorization


def load_wrappers(references: Sequence[str]) -> list[Wrap]:
    """Return the wrappers that `module:name` references point to.

    Raises:
        ValueError: one of them does not exist.
    """
    wrappers = []
    for reference in references:
        try:
            wrappers.append(load(reference))
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"task.wrappers={reference}: {' '.join(str(error).split())}") from error
    return wrappers


def can_reset_some(inner: Any) -> bool:
    """Return whether single worlds can be reset: by Gymnasium's batching; own versions may reset them all."""
    return isinstance(inner.unwrapped, (SyncVectorEnv, AsyncVectorEnv))


def flags(env_id: str, key: str, values: Any, *, num_envs: int) -> np.ndarray:
    """Return one flag a world (num_envs,) of an entry in info; an array counts if all flags are set.

    Raises:
        WorldError: there is not one entry for each world.
    """
    values = np.asarray(values)
    if values.shape[:1] != (num_envs,):
        shape = f"shape {values.shape}, not one entry for each of {num_envs} worlds"
        raise WorldError(f'env_id={env_id}: info["{key}"] has {shape}', trace="")
    if values.dtype == object:  # worlds that do not report it have None
        return np.array([value is not None and bool(np.all(value)) for value in values])
    return values.astype(np.bool_).reshape(num_envs, -1).all(1)


@contextlib.contextmanager
def refusals(env_id: str, *, is_rendered: bool) -> Iterator[None]:
    """Turn whatever the environment's own code raises in the block into one line.

    Raises:
        ValueError: anything was raised.
        RenderingUnavailableError: likewise, for worlds that are drawn.
    """
    try:
        yield
    except Exception as error:
        refusal: type[Exception] = ValueError
        if is_rendered:
            refusal = RenderingUnavailableError
        reason = one_line(error, trace=traceback.format_exc())
        raise refusal(f"env_id={env_id}: {reason}") from error


def one_line(error: Exception, *, trace: str) -> str:
    """Return the error's message on one line; its type and place if it has none.

    Args:
        error: raised by the environment's code.
        trace: its traceback, as text since it may come from another process.
    """
    text = " ".join(str(error).split())
    if not text:
        text = type(error).__name__
        places = _PLACE.findall(trace)
        if places:
            file, line, function = places[-1]
            text += f" without a message in {Path(file).name}, line {line} ({function})"
    if isinstance(error, ModuleNotFoundError):
        text += "; install the package it is in"
    return text


def _obstacle_to_own_batching(spec: EnvSpec, *, is_wrapped: bool) -> str:
    """Return why the environment's own batched version cannot be used, or nothing if it can."""
    if spec.vector_entry_point is None or spec.additional_wrappers:
        return "it has no batched version of its own"
    if is_wrapped:
        return "its own batched version takes no task.wrappers"
    # The time limit is the batched version's own business, since Gymnasium's `TimeLimit` wraps single
    # environments.
    if not _takes_time_limit(spec.vector_entry_point):
        return "its own batched version takes no max_episode_steps"
    return ""


def _takes_time_limit(entry_point: Any) -> bool:
    if callable(entry_point):
        creator = entry_point
    else:
        creator = load_env_creator(entry_point)
    parameters = inspect.signature(creator).parameters.values()
    return any(
        parameter.name == "max_episode_steps" or parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters
    )
