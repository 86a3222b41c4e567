"""The interfaces of policies: `Policy` acts, `ActorCritic` adds the methods that PPO uses."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from factory.energy.tokens import TokenSpec

Observations = dict[str, Tensor]
"""Observation groups, `policy` and `critic`. Each of shape (num_envs, size) float32."""


class Controller(Protocol):
    """Anything that plays whole episodes: a policy without its exploration noise, or a baseline."""

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the memory at the start of an episode. Shape: (num_envs, state_size) float32."""
        ...

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, A) or (num_envs,), and the next state."""
        ...


class Policy(nn.Module, ABC):
    """Maps observations, and a state that restarts with every episode, to actions.

    A subclass sets `token_spec` and `generator` and implements `act` and `act_deterministic`. A policy with
    memory also implements `initial_state`; the collector resets its rows when episodes end. Parameters and
    buffers are saved in checkpoints; everything random is drawn from `generator`, so that a resumed run
    repeats exactly.
    """

    token_spec: TokenSpec
    """Definition of one control token of this policy."""
    generator: torch.Generator
    """Source of the exploration noise, on the policy's device."""

    @abstractmethod
    def act(self, obs: Observations, state: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Sample actions for training.

        Args:
            obs: observation groups, each (num_envs, size).
            state: memory of the policy. Shape: (num_envs, state_size).

        Returns:
            Actions in the format of the action space, (num_envs, A) or (num_envs,); tensors for the learner
            by name, each (num_envs, ...) float32; and the next state (num_envs, state_size).
        """

    @abstractmethod
    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the actions used in evaluation, (num_envs, A) or (num_envs,), and the next state.

        Only the group `policy` may be read: the exported policy sees nothing else.
        """

    def initial_state(self, num_envs: int) -> Tensor:
        """Return the state at the start of an episode; a policy without memory has size 0.

        Shape: (num_envs, state_size) float32.
        """
        return torch.zeros(num_envs, 0, device=self.device)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        # A policy without any tensor, such as a scripted one, is where its noise is.
        tensors = (*self.parameters(), *self.buffers())
        if tensors:
            return tensors[0].device
        return self.generator.device

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds of one action, an estimate for choosing the number of threads."""
        # Every number of a weight matrix is multiplied once; biases have one dimension.
        return sum(parameter.numel() for parameter in self.parameters() if parameter.dim() > 1)

    def prepare(self) -> None:
        """Do slow one-time work, such as compiling, before the first action."""

    def for_export(self) -> Policy:
        """Return a copy of the policy for `torch.export`: same device, float32, traceable operations."""
        # Two copies: the shallow one drops the generator without touching the policy that goes on training.
        shallow = copy.copy(self)
        # Generators cannot be copied, and an exported policy draws nothing.
        del shallow.generator
        return copy.deepcopy(shallow)


class Evaluation(NamedTuple):
    """An actor-critic's view of a minibatch of B samples."""

    log_prob: Tensor
    """Shape: (B,)."""
    entropy: Tensor
    """Shape: (B,) [nat]."""
    value: Tensor
    """Normalised value. Shape: (B,)."""


class ActorCritic(Policy):
    """A policy with a critic, as PPO improves it.

    `act` returns `log_prob` (num_envs,) beside its actions. The critic sees observations alone, also where
    the actor has memory. Where `is_recurrent`, minibatches are whole rollouts of some environments, in the
    order of time.
    """

    is_recurrent: bool = False
    """True if the actor has memory, so that its samples must be evaluated in the order of time."""

    @abstractmethod
    def value(self, obs: Observations) -> Tensor:
        """Return values in return units, from the group `critic`. Shape: (..., size) -> (...,)."""

    @abstractmethod
    def evaluate(
        self, obs: Observations, action: Tensor, *, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Evaluation:
        """Return log-probability, entropy and normalised value of actions, with gradients.

        Args:
            obs: observations as `normalize` returns them, (B, size); without a group `critic` the critic sees
                the actor's. For a recurrent policy: (T, B, size).
            action: (B, A), with A = 1 for the index of a discrete action. For a recurrent policy: (T, B, A).
            state: state of a recurrent policy before the first step. Shape: (B, state_size).
            starts: steps before which a recurrent policy's state restarts. Shape: (T, B) bool.

        Returns:
            Tensors of shape (B,); for a recurrent policy (T, B).
        """

    def normalize(self, obs: Observations) -> Observations:
        """Return observations as `evaluate` expects them. Shapes: (..., size) -> (..., size)."""
        return obs

    def normalize_returns(self, returns: Tensor) -> Tensor:
        """Return returns in the units of `Evaluation.value`. Shape: (...,) -> (...,) float32."""
        return returns

    def update_observations(self, obs: Observations, live: Tensor | None = None) -> None:
        """Update the observation statistics with a rollout's live rows.

        Shapes: (T, num_envs, size), (T, num_envs).
        """

    def update_returns(self, returns: Tensor, live: Tensor | None = None) -> None:
        """Update the return statistics with live rows' returns. Shapes: (T, num_envs), (T, num_envs)."""
