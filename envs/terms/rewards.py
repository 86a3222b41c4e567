"""Reward and cost terms of legged locomotion: small pure functions, every one (num_envs, ...) -> (num_envs,).

`reward_*` lie in [0, 1]; `cost_*` are >= 0 and get a negative weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reward_tracking(error_sq: Tensor, *, sigma: float) -> Tensor:
    """Return exp(-error^2 / sigma), legged_gym's tracking kernel (Rudin et al. 2022, arXiv:2109.11978)."""
    return torch.exp(-error_sq / sigma)


TROT_OFFSETS_RAD = (0.0, math.pi, math.pi, 0.0)
"""Lead of each foot FL FR RL RR over the gait clock in a trot [rad]."""


def trot_swing(phase: Tensor, offsets: Tensor) -> Tensor:
    """Return the swing of each foot: a half sine, in turn for the diagonal pairs.

    Shapes: (num_envs,) [rad], (4,) [rad] -> (num_envs, 4), in [0, 1].
    """
    # The negative half of the sine is the stance, with the foot on the ground.
    return torch.sin(phase[:, None] + offsets).clamp(min=0.0)


def reward_feet_phase(foot_height: Tensor, swing: Tensor, *, swing_height: float) -> Tensor:
    """Return exp(-sum_i (height_i - swing_i * swing_height)^2 / swing_height^2), 1 for a perfect gait.

    The idea of tying foot height to a gait clock follows MuJoCo Playground's `feet_phase`
    (Zakka et al. 2025, arXiv:2502.08844).

    Args:
        foot_height: height of FL FR RL RR above ground [m]. Shape: (num_envs, 4).
        swing: wanted swing of each foot, 0 on the ground and 1 in mid swing. Shape: (num_envs, 4).
        swing_height: height of the foot in mid swing [m].
    """
    return torch.exp(-(foot_height - swing_height * swing).square().sum(-1) / swing_height**2)


def cost_vertical(velocity: Tensor, angular_velocity: Tensor) -> Tensor:
    """Return heave and roll/pitch rates squared. Shapes: (num_envs, 3) [m/s], (num_envs, 3) [rad/s]."""
    return velocity[:, 2].square() + 0.05 * angular_velocity[:, :2].square().sum(-1)


def cost_tilt(gravity: Tensor) -> Tensor:
    """Return the squared sine of the trunk's tilt. Shape: (num_envs, 3)."""
    # g = (sin tilt, 0, -cos tilt) up to a rotation around z.
    return gravity[:, :2].square().sum(-1)


def cost_height(height: Tensor, target: float) -> Tensor:
    """Return the squared deviation of the trunk's height. Shape: (num_envs,) [m]."""
    return (height - target).square()


def cost_action_rate(action: Tensor, last_action: Tensor) -> Tensor:
    """Return the squared change of the action. Shape: (num_envs, 12)."""
    return (action - last_action).square().sum(-1)


def cost_hips(angle: Tensor) -> Tensor:
    """Return the squared deviation of the hip abductions from the home pose. Shape: (num_envs, 4) [rad]."""
    return angle.square().sum(-1)
