"""The last good state of policy and learner, to go back to when an update ends in garbage."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from factory.learners.base import Learner
from factory.policies.base import Policy

Tensors = Mapping[str, Mapping[str, Tensor]]
"""Tensors by part and name."""


class Guard:
    """Keeps a finite copy of policy and learner in memory.

    After every update: `check`, and when the loop has read its answer, `keep` or `go_back`. The check alone
    is work for the device, so that nothing waits for it.
    """

    def __init__(self, policy: Policy, learner: Learner) -> None:
        """Keep the state as it is now."""
        self._policy = policy
        self._learner = learner
        self._good = self._copy()
        self._newest = self._good

    def check(self) -> Tensor:
        """Copy the state; return 1 if everything in it is finite, else 0. Shape: ()."""
        # Before the answer is known, since to wait for it here would stop the device.
        self._newest = self._copy()
        return self._newest.is_finite().float()

    def keep(self) -> None:
        """Take the state of the last `check` for good."""
        self._good = self._newest

    def go_back(self) -> None:
        """Restore the last good state, and let the learner make smaller steps from there."""
        good = self._good.tensors()
        self._policy.load_state_dict(good["policy"])
        self._learner.load_state_dict(good["learner"])
        self._learner.cut_step_size()
        # A second step back in a row starts from the smaller steps.
        self._good = self._copy()

    def _copy(self) -> _Packed:
        return _Packed({"policy": self._policy.state_dict(), "learner": self._learner.state_dict()})


class _Packed:
    """Copies of tensors, end to end in one tensor for each type.

    A copy and a sum of them all take less time than a copy and a sum of each.
    """

    def __init__(self, tensors: Tensors) -> None:
        # Not the tensors themselves: the learner's are copies already, which would be kept twice.
        self._layout = {
            part: {name: (value.dtype, value.shape) for name, value in values.items()}
            for part, values in tensors.items()
        }
        self._flat = {dtype: _joined(values) for dtype, values in _by_type(tensors).items()}

    def is_finite(self) -> Tensor:
        """Return whether all numbers are finite, without waiting for the device. Shape: () bool."""
        # A sum is NaN or infinite if a term is; it is made in double precision, where finite terms never
        # overflow.
        sums = [
            flat.sum(dtype=torch.float64) for dtype, flat in self._flat.items() if dtype.is_floating_point
        ]
        if not sums:
            return torch.tensor(True)
        return torch.stack(sums).sum().isfinite()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the copies by part and name."""
        rest = dict(self._flat)
        found: dict[str, dict[str, Tensor]] = {}
        for part, entries in self._layout.items():
            found[part] = {}
            for name, (dtype, shape) in entries.items():
                size = shape.numel()
                found[part][name] = rest[dtype][:size].view(shape)
                rest[dtype] = rest[dtype][size:]
        return found


def _by_type(tensors: Tensors) -> dict[torch.dtype, list[Tensor]]:
    """Return all tensors in their order, by type."""
    found: dict[torch.dtype, list[Tensor]] = {}
    for values in tensors.values():
        for value in values.values():
            found.setdefault(value.dtype, []).append(value)
    return found


def _joined(values: list[Tensor]) -> Tensor:
    """Return copies of tensors of one type, end to end."""
    flat = _flatten_dense_tensors(values)
    # A single tensor is only viewed.
    if len(values) == 1:
        flat = flat.clone()
    return flat


def is_finite(tensors: Tensors) -> Tensor:
    """Return whether all numbers are finite, without waiting for the device. Shape: () bool."""
    return _Packed(tensors).is_finite()
