"""Settings that every learner has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.validation import require

if TYPE_CHECKING:
    import torch

    from factory.learners.base import Learner
    from factory.policies.base import Policy
    from factory.runtime.graphs import Launcher


@dataclass(kw_only=True)
class LearnerConfig:
    """Settings shared by all learners; a subclass adds its own and builds the learner."""

    name: str = ""
    """Name of the option in the Hydra group `learner`."""
    num_steps: int = 24
    """Control steps of every environment in a rollout."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.num_steps >= 1, "learner.num_steps", self.num_steps, "must be at least 1")

    def check(self, *, num_envs: int) -> None:
        """Raise ValueError when the settings do not fit the environments of one process."""

    def check_policy(self, policy: Policy, *, num_envs: int) -> None:
        """Raise ValueError when the settings do not fit the policy in the environments of one process."""

    def build(self, policy: Policy, *, generator: torch.Generator, launcher: Launcher) -> Learner:
        """Build the learner.

        Args:
            policy: the policy to improve, on its device.
            generator: source of the learner's random numbers, on the same device.
            launcher: turns the work of an update into a CUDA graph, see `factory.runtime.graphs`.

        Raises:
            ValueError: this learner cannot improve such a policy.
        """
        raise NotImplementedError(f"{type(self).__name__} does not build a learner")
