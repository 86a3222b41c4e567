"""Latency: actions that are under way for a while before a vehicle obeys them.

Sizes: N vehicles, H remembered actions, A numbers of an action.
"""

from __future__ import annotations

import torch
from torch import Tensor


def delayed(history: Tensor, delay: Tensor, *, num_substeps: int) -> Tensor:
    """Return the actions that have arrived at the vehicle in every substep. Shape: (num_substeps, N, A).

    Args:
        history: actions of the current and of earlier control steps, the current one first. Shape: (N, H, A).
        delay: latency of each vehicle in substeps; actions older than `history` are replaced by its oldest.
            Shape: (N,) int64.
        num_substeps: substeps of a control step.
    """
    oldest = history.shape[1] - 1
    substep = torch.arange(num_substeps, device=delay.device)[:, None]
    # In substep s an action given k control steps ago has been under way for k * num_substeps + s substeps.
    age = ((delay - substep + num_substeps - 1) // num_substeps).clamp(0, oldest)
    rows = torch.arange(delay.numel(), device=delay.device) * (oldest + 1) + age
    return history.flatten(0, 1).index_select(0, rows.flatten()).view(num_substeps, -1, history.shape[-1])
