"""The gradient of PPO's loss by a policy's parameters: by autograd, or compiled where that is possible."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from factory import kernels
from factory.policies.base import ActorCritic, Evaluation
from factory.policies.gaussian import Gaussian
from factory.policies.mlp import MlpPolicy

Gradient = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Takes a minibatch's observation groups and actions in rows (B, size), and old log-probability, advantage,
the most
that the surrogate may be, return and live (5, B); observations, advantages and returns are normalised.

Returns sums over live samples: the gradient by all P parameters, in their order; policy loss, squared value
error, entropy, KL estimate, clipped ratios, and their number. Shape: (P + 6,).
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
    """Return the fastest way to the gradient.

    Args:
        policy: that is improved.
        parameters: those of its parameters that are learned.
        flat: the tensor of which they are views, (P,).
        clip_coef: a ratio further from 1 counts as clipped.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
    """
    way = NumbaGradient if NumbaGradient.fits(policy, parameters) else AutogradGradient
    return way(
        policy, parameters, flat, clip_coef=clip_coef, value_coef=value_coef, entropy_coef=entropy_coef
    )


class AutogradGradient:
    """Of any policy, on any device."""

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
        self.policy, self.parameters = policy, parameters
        self.clip_coef, self.value_coef, self.entropy_coef = clip_coef, value_coef, entropy_coef

    def __call__(self, batch: dict[str, Tensor], numbers: Tensor) -> Tensor:
        """Return the gradient, see `Gradient`."""
        # Sequences of a recurrent policy come with its state before them, and end as a flat list of samples.
        memory = {name: batch[name] for name in ("state", "starts") if name in batch}
        evaluated = self.policy.evaluate(batch, batch["action"], **memory)
        out = Evaluation(*(value.flatten() for value in evaluated))
        old_log_prob, advantage, bound, returns, live = numbers
        with torch.no_grad():
            log_ratio = out.log_prob - old_log_prob
            ratio = log_ratio.exp()
            surrogate, error, excess = ratio * advantage, out.value - returns, ratio - 1.0
            # Low-variance estimator k3 of KL(old || new), Schulman, http://joschu.net/blog/kl-approx.html
            kl = excess - log_ratio
            terms = [
                -surrogate.minimum(bound),
                error.square(),
                out.entropy,
                kl,
                excess.abs() > self.clip_coef,
            ]
            sums = torch.stack([*terms, torch.ones_like(live)]) @ live
            # The loss is sums[0] + value_coef / 2 sums[1] - entropy_coef sums[2]; its derivatives by what the
            # policy put out are short, and sparing autograd this part is a tenth of a small network's update.
            by_output = {
                out.log_prob: -surrogate * (surrogate <= bound) * live,
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
        self.flat, self.activation = flat, policy.actor.activation
        self.actor, self.critic = policy.actor.sizes, policy.critic.sizes
        self.coefficients = {"clip_coef": clip_coef, "value_coef": value_coef, "entropy_coef": entropy_coef}
        kernels.prepare_gradient(torch.get_num_threads())

    @staticmethod
    def fits(policy: ActorCritic, parameters: list[nn.Parameter]) -> bool:
        """Return whether this is such a policy, of which all parameters are learned."""
        # Derived classes may compute something else.
        if type(policy) is not MlpPolicy or type(policy.distribution) is not Gaussian:
            return False
        known = [*policy.distribution.parameters(), *policy.actor.parameters(), *policy.critic.parameters()]
        return (
            policy.actor.precision == torch.float32
            and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in known)
            and [id(p) for p in known] == [id(p) for p in parameters]
        )

    def __call__(self, batch: dict[str, Tensor], numbers: Tensor) -> Tensor:
        """Return the gradient, see `Gradient`."""
        obs = batch["policy"].numpy()
        critic_obs = batch["critic"].numpy() if "critic" in batch else obs
        gradient = kernels.ppo_gradient(
            obs,
            critic_obs,
            batch["action"].numpy(),
            numbers.contiguous().numpy(),
            self.flat.numpy(),
            self.actor,
            self.critic,
            self.activation,
            threads=torch.get_num_threads(),
            **self.coefficients,
        )
        return torch.from_numpy(gradient)
