"""Check that the contents of a checkpoint fit the parts that load them; all commands use the same check."""

from __future__ import annotations

import itertools
import random
import re
import typing
from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from factory.energy.ledger import EnergyLedger
from factory.energy.reading import MeterReading, merge_readings
from factory.energy.tokens import TokenCounter
from factory.envs.core.errors import WorldError
from factory.envs.core.training_env import COMMON_STATE
from factory.runtime.plain_types import check_mapping, conforms

_FINITE_PARTS = ("policy", "learner")
"""Parts in which a number that is not finite spoils everything that follows."""
_GROWING_PARTS = ("learner",)
"""Parts that may have more tensors than at first: torch's optimizers make theirs in the first step."""
_NUMPY_WORDS = 624
"""Words of the state of the Mersenne Twister."""


class Part(Protocol):
    """Part of a job that is kept in checkpoints."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the tensors of the part."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore them."""


class StoredHealth(TypedDict):
    """Plain values of `factory.training.health.Health`."""

    bad_samples: int
    skipped_steps: int
    rollbacks: int
    rollbacks_in_a_row: int
    recent_sample_shares: list[float]
    recent_step_shares: list[float]


class StoredState(TypedDict):
    """Plain values of a checkpoint that a resume goes on from."""

    iteration: int
    health: dict
    physics_s: float
    excluded_s: dict[str, float]
    threshold: dict[str, float]
    metrics: dict[str, float]
    tokens: dict[str, int]
    generators: dict[str, list]
    mlflow_run_id: str | None
    meter: dict
    evaluation_tokens: int
    peer_meters: list[dict]


class StoredSums(TypedDict):
    """Episode sums of an iteration, see `factory.training.collector.EpisodeStats`."""

    episodes: float
    return_sum: float
    length_sum: float
    nonfinite: float
    live_steps: float


class StoredEnergy(TypedDict):
    """Content of the energy file of a run folder."""

    meter: dict
    evaluation_tokens: int
    peer_meters: list[dict]


def load_part(part: Part, state: Mapping[str, Tensor], *, name: str) -> None:
    """Restore a part from its tensors, which must have the names, shapes and types of its own.

    Raises:
        ValueError: they have not; or, of policy and learner, a number is not finite.
    """
    check_tensors(part.state_dict(), state, name=name)
    try:
        part.load_state_dict(state)
    except WorldError:
        # An environment that starts new episodes failed in its own code, which is no misfit.
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        _, _, misfit = str(error).rpartition("\n")
        raise ValueError(f"{name}: {misfit.strip()}") from error


def check_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, name: str) -> None:
    """Check names, shapes and types of stored tensors against those of the part they belong to.

    Raises:
        ValueError: they differ.
    """
    for key in sorted(expected.keys() | given.keys()):
        if key not in given:
            raise ValueError(f"{name}: {key} is missing")
        stored = given[key]
        if key not in expected and name not in _GROWING_PARTS:
            raise ValueError(f"{name}: {key} is not part of it")
        if key in expected:
            own = expected[key]
            if stored.shape != own.shape:
                raise ValueError(f"{name}: {key} has shape {tuple(stored.shape)}, not {tuple(own.shape)}")
            if stored.dtype != own.dtype:
                raise ValueError(f"{name}: {key} has type {stored.dtype}, not {own.dtype}")
        if name in _FINITE_PARTS and not _is_finite(stored):
            raise ValueError(f"{name}: {key} is not finite")


def _is_finite(values: Tensor) -> bool:
    try:
        return bool(values.isfinite().all())
    except RuntimeError:
        # Some types, such as those of 8 bits, have no such operation; no part has them.
        return False


def check_rows(tensors: Mapping[str, Mapping[str, Tensor]], *, num_envs: int) -> None:
    """Check that environments and collector have a row for each environment of the job.

    Raises:
        ValueError: a tensor has more or fewer.
    """
    for name in ("env", "collector"):
        for key, value in tensors.get(name, {}).items():
            if key not in COMMON_STATE and value.shape[:1] != (num_envs,):
                raise ValueError(f"{name}: {key} has shape {tuple(value.shape)}, not {num_envs} rows")


def check_size(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Check that a stored policy has as many numbers as its layers need, before memory is taken for them.

    A layer between a and b units has a b weights, which are all in the file.

    Raises:
        ValueError: settings ask for more numbers than there are.
    """
    total = sum(value.numel() for value in tensors.values())
    for key, value in settings.items():
        sizes = value if isinstance(value, list) else [value]
        counts = [abs(size) for size in sizes if type(size) is int]
        products = [first * second for first, second in itertools.pairwise(counts)]
        if max([*counts, *products], default=0) > total:
            raise ValueError(f"policy: {key}={value} needs more numbers than the {total} there are")


def check_state(state: Mapping[str, Any], generators: Mapping[str, Tensor]) -> None:
    """Check the plain values and the global generators of a checkpoint, before anything is changed.

    Raises:
        ValueError: a value is missing, or has another type or range.
    """
    check_mapping(state, StoredState, name="state")
    check_mapping(state["health"], StoredHealth, name="health")
    for key in ("iteration", "evaluation_tokens"):
        if state[key] < 0:
            raise ValueError(f"state: {key}={state[key]} is negative")
    check_run_id(state["mlflow_run_id"])
    # Checkpoints of earlier versions have no window.
    window = state.get("window", [])
    if not isinstance(window, list):
        raise ValueError(f"state: window={window!r:.40} is no list")
    for sums in window:
        check_mapping(sums, StoredSums, name="window")
        if not conforms(sums, dict[str, float]):
            raise ValueError("window: a sum is no number")
    TokenCounter().load_state_dict(state["tokens"])
    check_energy(state)
    try:
        _try_generators(state["generators"], generators)
    except (LookupError, RuntimeError, TypeError, OverflowError) as error:
        raise ValueError(f"generators: {' '.join(str(error).split())}") from error


def check_run_id(run_id: Any) -> None:
    """Raise ValueError if a value is neither the id of an MLflow run nor None."""
    is_id = isinstance(run_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id)
    if run_id is not None and not is_id:
        raise ValueError(f"state: mlflow_run_id={run_id!r:.40} is no run id")


def check_energy(spent: Any) -> None:
    """Check the meter's totals, of a checkpoint or of the energy file.

    Raises:
        ValueError: a value is missing, or has another type.
    """
    check_mapping(spent, StoredEnergy, name="energy")
    # Runs of earlier versions do not say whether their hardware was shared.
    check_mapping(spent["meter"], EnergyLedger, name="meter", optional=("is_shared",))
    for peer in spent["peer_meters"]:
        check_mapping(peer, MeterReading, name="peer_meters", optional=("is_shared",))
        further = peer.keys() - typing.get_type_hints(MeterReading).keys()
        if further:
            raise ValueError(f"peer_meters: {sorted(further)!s:.80} are no keys of a reading")
    # Adding it up finds wrong lengths and unknown tiers.
    own = (EnergyLedger.from_dict(spent["meter"]) + EnergyLedger()).reading()
    merge_readings([own, *(MeterReading(**peer) for peer in spent["peer_meters"])])


def _try_generators(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Restore generators of no consequence from the state of the global ones."""
    version, words, gauss = plain["python"]
    random.Random().setstate((version, tuple(words), gauss))
    name, position, has_gauss, cached = plain["numpy"]
    keys = tensors["numpy"]
    # NumPy reads its state at `position` without a check of its own.
    is_sound = (
        name == "MT19937"
        and type(position) is int
        and 0 <= position <= _NUMPY_WORDS
        and keys.dtype == torch.int64
        and tuple(keys.shape) == (_NUMPY_WORDS,)
    )
    if not is_sound:
        raise ValueError("generators: the state of NumPy's is malformed")
    np.random.RandomState().set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    for key in ("torch", "policy"):
        torch.Generator().set_state(tensors[key])
