"""Conditions under which a run repeats bit for bit, as `docs/determinism.md` explains and tests show."""

from __future__ import annotations

from typing import Any

import torch

from factory import kernels
from factory.runtime import device, distributed


def conditions(kind: str, *, resumes_exactly: bool) -> dict[str, Any]:
    """Return what has to be equal, besides configuration and versions, for a run to give the same weights.

    Args:
        kind: device of policy and learner, `cpu` or `cuda`.
        resumes_exactly: whether the environment restores running episodes.
    """
    computed_by = "torch"
    if kind == "cpu" and kernels.are_enabled():
        computed_by = "compiled kernels"
    return {
        # A GPU adds up contacts and gradients in no fixed order.
        "is_exact": kind == "cpu",
        "is_exact_over_resumes": kind == "cpu" and resumes_exactly,
        "torch_threads": torch.get_num_threads(),
        "processes": distributed.size(),
        "computed_by": computed_by,
        "processor": device.cpu_name(),
    }
