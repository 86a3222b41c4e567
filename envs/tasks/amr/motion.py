"""Motion of the robot: speeds that follow commands, and the way of a step.

Sizes: N robots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.amr.robot import MAX_TURN_RAD_PER_S


def commanded(action: Tensor, *, speed_m_per_s: tuple[float, float]) -> Tensor:
    """Return the speed and turn rate that an action in [-1, 1] asks for; the first spans a range of speeds.

    Shapes: (N, 2) -> (N, 2) [m/s, rad/s].
    """
    low, high = speed_m_per_s
    speed = low + 0.5 * (high - low) * (action[:, :1] + 1.0)
    return torch.cat([speed, MAX_TURN_RAD_PER_S * action[:, 1:]], -1)


def approached(twist: Tensor, wanted: Tensor, most_change: Tensor) -> Tensor:
    """Return speed and turn rate a step later, changed by no more than `most_change` (2,). Shapes: (N, 2)."""
    change = torch.minimum(torch.maximum(wanted - twist, -most_change), most_change)
    return twist + change


def velocity(heading: Tensor, twist: Tensor, *, step_s: float) -> Tensor:
    """Return the mean velocity of a step along an arc, x, y [m/s] and turn rate [rad/s].

    The robot moves along its heading in the middle of the step. Shapes: (N,) [rad], (N, 2) -> (N, 3).
    """
    middle = heading + 0.5 * step_s * twist[:, 1]
    return torch.stack([twist[:, 0] * middle.cos(), twist[:, 0] * middle.sin(), twist[:, 1]], -1)
