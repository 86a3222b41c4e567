"""The gradient of PPO's loss over the parameters of a policy: autograd or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from factory import kernels
from factory.policies.base import ActorCritic, Evaluation
from factory.policies.gaussian import Gaussian
from factory.policies.mlp import MlpPolicy


class Samples(NamedTuple):
    """The numbers of B samples that PPO's loss depends on. Each of shape (B,) float32."""

    old_log_prob: Tensor
    """Log-probability of the action when it was taken."""
    advantage: Tensor
    """Normalised advantage A."""
    bound: Tensor
    """Largest value of the surrogate, A + clip_coef |A|."""
    target: Tensor
    """Normalised return."""
    live: Tensor
    """1 where the action was executed, else 0."""


Gradient = Callable[[dict[str, Tensor], Samples], Tensor]
"""Takes the normalised observation groups and the actions of a minibatch, each (B, size), and its numbers.

Returns sums over live samples: the gradient over all P parameters, in their order; policy loss, squared value
error, entropy, KL estimate, clipped ratios, and the number of live samples. Shape: (P + 6,).
"""


def make_gradient(
    policy: ActorCritic,
    parameters: list[nn.Parameter],
    flat: Tensor,
    *,
    clip_coef: float,
    value_coef: float,
    entropy_coef: float,
) -> Gradient:
    """Return the fastest implementation of the gradient for a policy.

    Args:
        policy: the actor-critic to improve.
        parameters: its learned parameters.
        flat: one tensor that holds them all as views. Shape: (P,).
        clip_coef: a ratio further from 1 counts as clipped.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
    """
    implementation: type[AutogradGradient | NumbaGradient] = AutogradGradient
    if NumbaGradient.fits(policy, parameters):
        implementation = NumbaGradient
    return implementation(
        policy, parameters, flat, clip_coef=clip_coef, value_coef=value_coef, entropy_coef=entropy_coef
    )


class AutogradGradient:
    """Gradient by autograd, for any policy on any device."""

    def __init__(
        self,
        policy: ActorCritic,
        parameters: list[nn.Parameter],
        flat: Tensor,
        *,
        clip_coef: float,
        value_coef: float,
        entropy_coef: float,
    ) -> None:
        self.policy = policy
        self.parameters = parameters
        self.clip_coef = clip_coef
        self.value_coef = value_coef
        self.entropy_coef = entropy_coef

    def __call__(self, batch: dict[str, Tensor], samples: Samples) -> Tensor:
        """Return the gradient, see `Gradient`."""
        # Sequences of a recurrent policy come with its state before them, and end as a flat list of samples.
        memory = {name: batch[name] for name in ("state", "starts") if name in batch}
        evaluated = self.policy.evaluate(batch, batch["action"], **memory)
        out = Evaluation(*(value.flatten() for value in evaluated))
        live = samples.live
        with torch.no_grad():
            # r = pi(a) / pi_old(a)
            log_ratio = out.log_prob - samples.old_log_prob
            ratio = log_ratio.exp()
            surrogate = ratio * samples.advantage
            error = out.value - samples.target
            excess = ratio - 1.0

            # Low-variance estimator k3 of KL(old || new), Schulman, http://joschu.net/blog/kl-approx.html
            kl = excess - log_ratio
            is_clipped = excess.abs() > self.clip_coef
            policy_loss = -surrogate.minimum(samples.bound)
            terms = [policy_loss, error.square(), out.entropy, kl, is_clipped, torch.ones_like(live)]
            sums = torch.stack(terms) @ live

            # The loss is policy_loss + value_coef / 2 error^2 - entropy_coef entropy. Its derivatives by the
            # outputs of the policy are short, and sparing autograd this part saves a tenth of an update of
            # small networks. By log pi, the surrogate's is r A = surrogate below the bound and 0 above.
            is_below = surrogate <= samples.bound
            by_output = {
                out.log_prob: -surrogate * is_below * live,
                out.value: self.value_coef * error * live,
                out.entropy: -self.entropy_coef * live,
            }
        grads = torch.autograd.grad(list(by_output), self.parameters, list(by_output.values()))
        return torch.cat([*(grad.flatten() for grad in grads), sums])


class NumbaGradient:
    """Numba gradient for float32 Gaussian policies of perceptrons on a CPU, block of samples by block."""

    def __init__(
        self,
        policy: ActorCritic,
        parameters: list[nn.Parameter],
        flat: Tensor,
        *,
        clip_coef: float,
        value_coef: float,
        entropy_coef: float,
    ) -> None:
        assert isinstance(policy, MlpPolicy)
        self.flat = flat
        self.activation = policy.actor.activation
        self.actor = policy.actor.layers
        self.critic = policy.critic.layers
        self.coefficients = {"clip_coef": clip_coef, "value_coef": value_coef, "entropy_coef": entropy_coef}
        kernels.prepare_gradient(torch.get_num_threads())

    @staticmethod
    def fits(policy: ActorCritic, parameters: list[nn.Parameter]) -> bool:
        """Return True for a float32 Gaussian MLP policy on a CPU whose parameters are all learned."""
        if not kernels.are_enabled():
            return False
        # Derived classes may compute something else.
        if type(policy) is not MlpPolicy or type(policy.distribution) is not Gaussian:
            return False
        known = [*policy.distribution.parameters(), *policy.actor.parameters(), *policy.critic.parameters()]
        return (
            policy.actor.precision == torch.float32
            and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in known)
            and [id(p) for p in known] == [id(p) for p in parameters]
        )

    def __call__(self, batch: dict[str, Tensor], samples: Samples) -> Tensor:
        """Return the gradient, see `Gradient`."""
        obs = batch["policy"].numpy()
        # Without a group of its own, the critic sees the actor's observations.
        critic_obs = batch.get("critic", batch["policy"]).numpy()
        gradient = kernels.ppo_gradient(
            obs,
            critic_obs,
            batch["action"].numpy(),
            kernels.Samples(*(values.contiguous().numpy() for values in samples)),
            self.flat.numpy(),
            self.actor,
            self.critic,
            self.activation,
            threads=torch.get_num_threads(),
            **self.coefficients,
        )
        return torch.from_numpy(gradient)
