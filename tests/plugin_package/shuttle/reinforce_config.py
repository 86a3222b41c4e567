"""Settings of REINFORCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.learners.config import LearnerConfig
from factory.validation import require

if TYPE_CHECKING:
    import torch

    from factory.policies.base import Policy
    from factory.runtime.graphs import Launcher
    from shuttle.reinforce import Reinforce


@dataclass(kw_only=True)
class ReinforceConfig(LearnerConfig):
    """The policy gradient with returns of a rollout, one gradient step each."""

    name: str = "reinforce"
    gamma: float = 0.97
    """Discount of a control step."""
    learning_rate: float = 3e-3
    """Adam's step size."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(0 <= self.gamma <= 1, "learner.gamma", self.gamma, "must be in [0, 1]")
        require(self.learning_rate > 0, "learner.learning_rate", self.learning_rate, "must be positive")

    def build(self, policy: Policy, *, generator: torch.Generator, launcher: Launcher) -> Reinforce:
        """Build the learner, see `LearnerConfig.build`; it draws nothing and runs operation by operation."""
        from shuttle.reinforce import Reinforce

        return Reinforce(self, policy)
