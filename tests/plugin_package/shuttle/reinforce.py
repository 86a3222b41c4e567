"""REINFORCE (Williams 1992): the plainest learner that uses a rollout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from factory.learners.base import Learner
from factory.learners.rollout import Rollout
from factory.policies.base import ActorCritic, Policy
from factory.validation import require
from shuttle.reinforce_config import ReinforceConfig


class Reinforce(Learner):
    """Makes actions likelier that were followed by more than the mean return of the rollout."""

    def __init__(self, cfg: ReinforceConfig, policy: Policy) -> None:
        """Prepare the optimizer."""
        fits = isinstance(policy, ActorCritic)
        require(fits, "learner", "reinforce", f"{type(policy).__name__} cannot evaluate its actions")
        self.cfg = cfg
        self.policy: Any = policy
        self.parameters = list(policy.parameters())
        self.adam = torch.optim.Adam(self.parameters, lr=cfg.learning_rate)

    def update(self, rollout: Rollout, *, progress: float) -> dict[str, Tensor]:
        """Take one gradient step along the policy gradient."""
        returns = self._returns(rollout)
        advantage = (returns - returns.mean()) / (returns.std() + 1e-8)
        live = rollout.live.float()

        # grad J = E[grad log pi(a | s) A], over the steps that were executed
        loss = -(self._log_prob(rollout) * advantage * live).sum() / live.sum()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        # Last: the gradient belongs to the statistics with which the policy acted.
        self.policy.update_observations(rollout.obs, rollout.live)
        return {"policy": loss.detach(), "rollout_return": returns.mean()}

    def _returns(self, rollout: Rollout) -> Tensor:
        """Return the discounted rewards from each step on, to the end of its episode. Shape: (T, N)."""
        # G_t = r_t + gamma G_t+1, within an episode
        returns = torch.empty_like(rollout.rewards)
        running = torch.zeros_like(rollout.rewards[0])
        for step in reversed(range(len(returns))):
            running = rollout.rewards[step] + self.cfg.gamma * running * ~rollout.episode_ends[step]
            returns[step] = running
        return returns

    def _log_prob(self, rollout: Rollout) -> Tensor:
        """Return the log-probability of every action, with gradients. Shape: (T, N)."""
        policy = self.policy
        obs = policy.normalize(rollout.obs)
        if policy.is_recurrent:
            state = rollout.initial_state
            return policy.evaluate(obs, rollout.actions, state=state, starts=rollout.episode_starts).log_prob
        rows = {name: group.flatten(0, 1) for name, group in obs.items()}
        found = policy.evaluate(rows, rollout.actions.flatten(0, 1)).log_prob
        return found.view(rollout.rewards.shape)

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments and step counts."""
        states = self.adam.state_dict()["state"]
        return {
            f"{index}/{key}": value.clone() for index, state in states.items() for key, value in state.items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`."""
        for name, value in state.items():
            index, _, key = name.partition("/")
            self.adam.state[self.parameters[int(index)]][key] = value.clone()
