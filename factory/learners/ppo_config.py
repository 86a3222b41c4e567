"""Settings of proximal policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.learners.config import LearnerConfig
from factory.validation import require

if TYPE_CHECKING:
    import torch

    from factory.learners.ppo import Ppo
    from factory.policies.base import Policy
    from factory.runtime.graphs import Launcher

SCHEDULES = ("adaptive", "annealed", "linear", "fixed")


@dataclass(kw_only=True)
class PpoConfig(LearnerConfig):
    """Hyperparameters of PPO."""

    name: str = "ppo"
    num_epochs: int = 4
    """Passes over a rollout."""
    num_minibatches: int = 4
    """Gradient steps of a pass."""
    gamma: float = 0.99
    """Discount of a control step."""
    gae_lambda: float = 0.95
    """Decay of the advantage trace."""
    clip_coef: float = 0.2
    """Half-width of the trust interval of the probability ratio."""
    value_coef: float = 1.0
    """Weight of the value loss, in units of normalised returns."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    learning_rate: float = 1e-3
    """Adam's step size; the first one when it is adaptive."""
    schedule: str = "adaptive"
    """adaptive: steered by the KL divergence; annealed: so, too, and what it is steered to falls to zero over
    the run;
    linear: the step size itself falls to zero; fixed."""
    desired_kl: float = 0.01
    """KL divergence a gradient step aims at when `schedule` is adaptive, at the start when it is annealed
    [nat].
    """
    min_learning_rate: float = 1e-5
    """Lower end of the adaptive step size."""
    max_learning_rate: float = 1e-2
    """Upper end of the adaptive step size."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        for key in ("num_epochs", "num_minibatches"):
            require(getattr(self, key) >= 1, f"learner.{key}", getattr(self, key), "must be at least 1")
        for key in ("learning_rate", "clip_coef", "max_grad_norm", "desired_kl", "min_learning_rate"):
            require(getattr(self, key) > 0, f"learner.{key}", getattr(self, key), "must be positive")
        for key in ("value_coef", "entropy_coef"):
            require(getattr(self, key) >= 0, f"learner.{key}", getattr(self, key), "must not be negative")
        for key in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, key) <= 1, f"learner.{key}", getattr(self, key), "must be in [0, 1]")
        require(
            self.schedule in SCHEDULES,
            "learner.schedule",
            self.schedule,
            f"choose one of {', '.join(SCHEDULES)}",
        )
        require(
            self.max_learning_rate >= self.min_learning_rate,
            "learner.max_learning_rate",
            self.max_learning_rate,
            f"must be at least learner.min_learning_rate={self.min_learning_rate}",
        )

    def check(self, *, num_envs: int) -> None:
        """Raise ValueError when a rollout has fewer samples than minibatches."""
        samples = num_envs * self.num_steps
        require(
            self.num_minibatches <= samples,
            "learner.num_minibatches",
            self.num_minibatches,
            f"must not exceed num_envs * learner.num_steps = {samples}",
        )

    def check_policy(self, policy: Policy, *, num_envs: int) -> None:
        """Raise ValueError when a minibatch of a recurrent policy would hold no environment."""
        # Such minibatches are whole rollouts of some environments, see `ActorCritic`.
        fits = not getattr(policy, "is_recurrent", False) or self.num_minibatches <= num_envs
        remedy = f"must not exceed the environments of a process ({num_envs}), as the policy is recurrent"
        require(fits, "learner.num_minibatches", self.num_minibatches, remedy)

    def build(self, policy: Policy, *, generator: torch.Generator, launcher: Launcher) -> Ppo:
        """Build the learner, see `LearnerConfig.build`."""
        from factory.learners.ppo import Ppo
        from factory.policies.base import ActorCritic

        if not isinstance(policy, ActorCritic):
            remedy = "choose another learner, or derive the policy from ActorCritic"
            raise ValueError(f"learner={self.name}: {type(policy).__name__} has no critic; {remedy}")
        return Ppo(self, policy, generator=generator, launcher=launcher)
