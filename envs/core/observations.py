"""The boundary between an environment and its user: groups of observations, actions, masks."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

Observation = dict[str, Tensor]
"""Observation groups: `policy`, and `critic` where the critic sees more. Each (num_envs, size) float32."""


def groups_of(value: Any) -> dict[str, Any]:
    """Return the groups of an observation or of its space."""
    if isinstance(value, (dict, Dict)):
        return dict(value)
    return {"policy": value}


def unwrap_single_group(groups: Observation) -> Any:
    """Return an observation as environments show it: a lone group as a tensor."""
    if len(groups) > 1:
        return groups
    return groups["policy"]


def unwrap_single_space(groups: dict[str, gymnasium.Space[Any]]) -> gymnasium.Space[Any]:
    """Return the space of an observation, as `unwrap_single_group` shows it."""
    if len(groups) > 1:
        return Dict(groups)
    return groups["policy"]


class ClampToBox(nn.Module):
    """Moves actions to the nearest ones inside a Box, as environments do with those outside."""

    low: Tensor
    high: Tensor

    def __init__(self, box: Box, *, device: torch.device) -> None:
        """Keep the bounds of `box` on `device`."""
        super().__init__()
        self.register_buffer("low", torch.as_tensor(box.low, device=device))
        self.register_buffer("high", torch.as_tensor(box.high, device=device))

    def forward(self, action: Tensor) -> Tensor:
        """Return actions within the bounds. Shape: (B, A) -> (B, A)."""
        return action.clamp(self.low, self.high)


def checked_actions(env: Any, actions: Any) -> Tensor:
    """Return `actions` as float32 on the device of `env`, where a wrong shape would otherwise be broadcast.

    Raises:
        ValueError: the shape is not that of the action space.
    """
    action = torch.as_tensor(actions, dtype=torch.float32, device=env.device)
    # A single action of shape (A,) would move all worlds alike.
    if action.shape != env.action_space.shape:
        raise ValueError(f"actions have shape {tuple(action.shape)}; expected {env.action_space.shape}")
    return action


def checked_mask(env: Any, mask: Any) -> Tensor:
    """Return a mask of worlds as a bool tensor on the device of `env`. Shape: (num_envs,).

    Raises:
        ValueError: shape or type is wrong, or no world is selected.
    """
    mask = torch.as_tensor(mask, device=env.device)
    if mask.dtype != torch.bool or mask.shape != (env.num_envs,):
        raise ValueError(
            f"reset mask is {mask.dtype} of shape {tuple(mask.shape)}; need bool ({env.num_envs},)"
        )
    if not bool(mask.any()):
        raise ValueError("reset mask selects no world; set at least one entry to True")
    return mask
