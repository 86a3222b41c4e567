"""The last good state of policy and learner, to go back to when an update ends in garbage."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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
        return is_finite(self._newest).float()

    def keep(self) -> None:
        """Take the state of the last `check` for good."""
        self._good = self._newest

    def go_back(self) -> None:
        """Restore the last good state, and let the learner make smaller steps from there."""
        self._policy.load_state_dict(self._good["policy"])
        self._learner.load_state_dict(dict(self._good["learner"]))
        self._learner.cut_step_size()
        # A second step back in a row starts from the smaller steps.
        self._good = self._copy()

    def _copy(self) -> Tensors:
        policy = {name: value.clone() for name, value in self._policy.state_dict().items()}
        return {"policy": policy, "learner": self._learner.state_dict()}


def is_finite(tensors: Tensors) -> Tensor:
    """Return whether all numbers are finite, without waiting for the device. Shape: () bool."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for part in tensors.values():
        for value in part.values():
            if value.is_floating_point():
                by_type.setdefault(value.dtype, []).append(value.view(-1))
    if not by_type:
        return torch.tensor(True)
    # A sum is NaN or infinite if a term is; it is made in double precision, where finite terms never
    # overflow. One sum over all tensors of a type is faster than a sum of each.
    sums = [torch.cat(values).sum(dtype=torch.float64) for values in by_type.values()]
    return torch.stack(sums).sum().isfinite()
