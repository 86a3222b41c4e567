"""Outcomes, metrics of episodes and reward terms: pure functions.

Sizes: N environments, M movers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from factory.envs.tasks.amr.config import AmrRewards
from factory.envs.tasks.amr.obstacles import Movers
from factory.envs.tasks.amr.robot import MAX_SPEED_M_PER_S, RANGE_M, ROBOT_RADIUS_M

OUTCOMES = ("success", "collision_static", "collision_mover", "struck")
"""Ends of an episode besides the time limit. The robot is `struck` by a mover that it did not approach."""
EPISODE_METRICS = ("spl", "sct", "barn_score", "time_s", "path_m", "clearance_min_m")
REWARD_TERMS = ("progress", "goal", "collision", "nearness", "turning", "time")
BARN_CLIP = (2.0, 8.0)
"""Bounds of the time in the BARN score, in times of the fastest: its maximum is 0.5."""
_AT_FAULT_M_PER_S = 0.05
"""Speed of the robot towards a mover above which a collision is its own fault."""
_NEAR_M = 0.3
"""Room around the robot below which nearness costs."""
_JUMP_M = 0.3
"""Largest credited progress of a step: a gap too narrow for a path may cut a path's length."""


class Contact(NamedTuple):
    """Room around the robot. Shapes: (N,)."""

    to_static: Tensor
    """Gap to the nearest box or wall, negative after a collision [m]."""
    to_mover: Tensor
    """Gap to the nearest mover [m]."""
    approaches: Tensor
    """True where the robot drives towards that mover."""

    @property
    def clearance(self) -> Tensor:
        """Gap to whatever is nearest [m]."""
        return torch.minimum(self.to_static, self.to_mover)


def contact_of(to_static: Tensor, position: Tensor, velocity: Tensor, movers: Movers) -> Contact:
    """Return the room around robots with a distance (N,) of their centres from boxes and walls.

    Shapes of position and velocity: (N, 2) [m, m/s].
    """
    to_static = to_static - ROBOT_RADIUS_M
    if movers.radius.shape[1] == 0:
        return Contact(to_static, torch.full_like(to_static, RANGE_M), torch.zeros_like(to_static).bool())
    offset = movers.position - position[:, None]
    distance = offset.norm(dim=-1)
    to_mover, nearest = (distance - movers.radius - ROBOT_RADIUS_M).min(-1, keepdim=True)
    approach = (velocity[:, None] * offset).sum(-1) / distance.clamp(min=1e-6)
    return Contact(to_static, to_mover[:, 0], approach.gather(-1, nearest)[:, 0] > _AT_FAULT_M_PER_S)


def outcomes(contact: Contact, reached: Tensor) -> Tensor:
    """Return the outcome of episodes that would end now, an index into `OUTCOMES`. Shape: (N,) int64."""
    # Those that the task does not end can only meet the time limit, whose index is the next one.
    outcome = torch.full_like(reached, len(OUTCOMES), dtype=torch.int64)
    struck = contact.to_mover < 0.0
    # A later line overrules an earlier one.
    for name, mask in (
        ("success", reached),
        ("struck", struck),
        ("collision_mover", struck & contact.approaches),
        ("collision_static", contact.to_static < 0.0),
    ):
        outcome = outcome.masked_fill(mask, OUTCOMES.index(name))
    return outcome


def episode_metrics(
    reached: Tensor, *, shortest: Tensor, travelled: Tensor, elapsed: Tensor, clearance: Tensor
) -> dict[str, Tensor]:
    """Return the metrics of episodes that would end now. Shapes: (N,).

    SPL after Anderson et al. (2018, arXiv:1807.06757), SCT after Yokoyama et al. (2021, arXiv:2103.08022),
    the score of the BARN challenge with the clip of its later editions.

    Args:
        reached: mask of successes.
        shortest: length of the shortest path [m].
        travelled: length of the path so far [m].
        elapsed: time so far [s].
        clearance: smallest gap so far [m].
    """
    success = reached.float()
    fastest = shortest / MAX_SPEED_M_PER_S
    low, high = BARN_CLIP
    # BARN: nobody is better than twice the fastest time, or worse than eight times.
    clipped = torch.minimum(torch.maximum(elapsed, low * fastest), high * fastest)
    return {
        "spl": success * shortest / torch.maximum(travelled, shortest),
        "sct": success * fastest / torch.maximum(elapsed, fastest),
        "barn_score": success * fastest / clipped,
        "time_s": elapsed.clone(),
        "path_m": travelled.clone(),
        "clearance_min_m": clearance.clone(),
    }


def reward_terms(
    weights: AmrRewards, *, progress: Tensor, clearance: Tensor, reached: Tensor, change: Tensor
) -> Tensor:
    """Return the weighted terms, one column a name in `REWARD_TERMS`. Shape: (N, 6).

    Args:
        weights: weights of the terms.
        progress: metres by which the shortest path to the goal got shorter. Shape: (N,).
        clearance: gap to whatever is nearest, negative after a collision. Shape: (N,) [m].
        reached: mask of successes. Shape: (N,).
        change: change of the action. Shape: (N, 2).
    """
    # 0 with enough room, 1 in contact.
    near = (1.0 - clearance / _NEAR_M).clamp(0.0, 1.0)
    terms = (
        weights.progress * progress.clamp(-_JUMP_M, _JUMP_M),
        weights.goal * reached.float(),
        weights.collision * (clearance < 0.0).float(),
        weights.nearness * near.square(),
        weights.turning * change.square().sum(-1),
        weights.time * torch.ones_like(near),
    )
    return torch.stack(terms, -1)
