"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from factory.learners.adam import Adam
from factory.learners.gradient import make_gradient
from factory.learners.rollout import Rollout, advantages
from factory.policies.mlp import MlpPolicy
from factory.policies.normalizer import moments
from factory.runtime import distributed
from factory.runtime.graphs import Launcher, eager
from factory.validation import require

SCHEDULES = ("adaptive", "annealed", "linear", "fixed")


@dataclass(kw_only=True)
class PpoConfig:
    """Hyperparameters of PPO."""

    name: str = "ppo"
    """Name of the option in the Hydra group `learner`."""
    num_steps: int = 24
    """Control steps of every world in a rollout."""
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
    """adaptive: steered by the KL divergence; annealed: so, too, and what it is steered to falls to zero over the run;
    linear: the step size itself falls to zero; fixed."""
    desired_kl: float = 0.01
    """KL divergence a gradient step aims at when `schedule` is adaptive, at the start when it is annealed [nat]."""
    min_learning_rate: float = 1e-5
    """Lower end of the adaptive step size."""
    max_learning_rate: float = 1e-2
    """Upper end of the adaptive step size."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for key in ("num_steps", "num_epochs", "num_minibatches"):
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


@dataclass(kw_only=True)
class UpdateStats:
    """Means over an update's gradient steps, on the device until read. Each of shape ()."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    grad_norm: Tensor
    explained_variance: Tensor
    learning_rate: Tensor
    skipped: Tensor
    """Gradient steps skipped because a gradient was not finite."""
    rolled_back: Tensor
    """1 if the update left a parameter that is not finite and was undone, else 0."""
    processed: int
    """Samples that went through a gradient step (minibatch samples times epochs)."""


class Ppo:
    """Clipped-surrogate PPO with an adaptive step size, all of it on the device."""

    def __init__(
        self, cfg: PpoConfig, policy: MlpPolicy, *, generator: torch.Generator, launcher: Launcher = eager
    ) -> None:
        """Prepare the optimizer.

        Args:
            cfg: hyperparameters.
            policy: the actor-critic to improve.
            generator: source of the minibatch permutations, on the policy's device.
            launcher: how an update is launched; other than `eager`, every update must be given the same rollout.
        """
        self.cfg = cfg
        self.policy = policy
        self.generator = generator
        self.parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        self.flat = _flatten_parameters(self.parameters)
        on = self.flat.device
        self.learning_rate = torch.tensor(cfg.learning_rate, device=on)
        self.adam = Adam(self.flat)
        self._gradient = make_gradient(
            policy,
            self.parameters,
            self.flat,
            clip_coef=cfg.clip_coef,
            value_coef=cfg.value_coef,
            entropy_coef=cfg.entropy_coef,
        )
        self._left = torch.ones((), device=on)
        self._launcher = launcher
        self._launch: Callable[[], tuple[Tensor, Tensor, Tensor]] | None = None

    def update(self, rollout: Rollout, *, progress: float = 0.0) -> UpdateStats:
        """Improve the policy on one rollout; then take its observations into the normaliser.

        Args:
            rollout: T steps of N worlds, collected with the policy as it is now.
            progress: share of the run that is done, for schedules that fall over it.
        """
        self._left.fill_(max(1.0 - progress, 0.0))
        if self._launch is None or self._launcher is eager:
            self._launch = self._launcher(partial(self._improve, rollout), [self.generator])
        sums, rolled_back, explained_variance = self._launch()
        steps = self.cfg.num_epochs * self.cfg.num_minibatches
        mean = sums / steps
        return UpdateStats(
            policy=mean[0],
            value=mean[1],
            entropy=mean[2],
            approx_kl=mean[3],
            clip_fraction=mean[4],
            grad_norm=mean[5],
            skipped=sums[6],
            rolled_back=rolled_back,
            learning_rate=self.learning_rate.clone(),
            explained_variance=explained_variance,
            processed=rollout.num_samples // self.cfg.num_minibatches * steps,
        )

    def _improve(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Make all gradient steps; return the sums of their figures (7,), rolled back (), explained variance ()."""
        cfg, policy = self.cfg, self.policy
        if cfg.schedule == "linear":
            self.learning_rate.copy_(cfg.learning_rate * self._left)
        desired_kl = cfg.desired_kl * (
            self._left if cfg.schedule == "annealed" else torch.ones_like(self._left)
        )
        gae = advantages(
            rollout.rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
        )
        returns = gae + rollout.values
        policy.update_returns(returns, rollout.live)
        before = self.flat.clone()
        rows, columns = self._samples(rollout, gae, returns)
        sums = torch.zeros(7, device=gae.device)
        size = rollout.num_samples // cfg.num_minibatches
        for _ in range(cfg.num_epochs):
            order = torch.randperm(rollout.num_samples, generator=self.generator, device=gae.device)
            order = order[: size * cfg.num_minibatches]
            shuffled = [value.index_select(0, order).split(size) for value in rows.values()]
            for *batch, numbers in zip(*shuffled, columns.index_select(1, order).split(size, 1), strict=True):
                sums += self._gradient_step(
                    dict(zip(rows, batch, strict=True)), numbers, desired_kl=desired_kl
                )
        rolled_back = self._roll_back(before)
        policy.update_observations(rollout.obs, rollout.live)
        return sums, rolled_back, _explained_variance(rollout.values, returns, rollout.live)

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments and step count, step size and generator."""
        state = {"learning_rate": self.learning_rate.clone(), "generator": self.generator.get_state()}
        return state | {f"adam/{name}": value.clone() for name, value in self.adam.state().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`."""
        for name, value in self.adam.state().items():
            value.copy_(state[f"adam/{name}"])
        self.learning_rate.copy_(state["learning_rate"])
        self.generator.set_state(state["generator"].cpu())

    def _samples(self, rollout: Rollout, gae: Tensor, returns: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return what gradient steps need of M samples: observations and actions in rows, numbers in columns.

        Shapes: observation group name, or "action" -> (M, size); old log-probability, advantage, the most that the
        surrogate may be, return and live: (5, M). Observations, advantages and returns are normalised.
        """
        stats = self.policy.return_normalizer
        obs = {name: group.flatten(0, 1) for name, group in rollout.obs.items()}
        if rollout.obs["critic"] is rollout.obs["policy"]:
            del obs["critic"]
        mean, var, _ = moments(gae.view(-1, 1), rollout.live.flatten())
        advantage = (gae.flatten() - mean) / (var.sqrt() + 1e-8)
        # min(r A, clip(r, 1 - c, 1 + c) A) = min(r A, A + c |A|) for every ratio r >= 0
        bound = advantage + self.cfg.clip_coef * advantage.abs()
        value = ((returns - stats.mean) / stats.std).float().flatten()
        columns = torch.stack(
            [rollout.log_probs.flatten(), advantage, bound, value, rollout.live.float().flatten()]
        )
        return self.policy.normalize(obs) | {"action": rollout.actions.flatten(0, 1)}, columns

    def _gradient_step(self, batch: dict[str, Tensor], columns: Tensor, *, desired_kl: Tensor) -> Tensor:
        """Make one step; return policy, value, entropy, KL, clipped share, gradient norm, skipped. Shape: (7,)."""
        cfg = self.cfg
        sums = self._gradient(batch, columns)
        with torch.no_grad():
            # Sums over samples until here; now over processes, in one message, and then means.
            means = distributed.all_reduce_sum_(sums)
            means /= means[-1].clamp(min=1.0)
            grad, figures = means[:-6], means[-6:-1]
            norm = grad.norm()
            finite = norm.isfinite()
            scale = (cfg.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            if cfg.schedule in ("adaptive", "annealed"):
                self._adapt(figures[3], desired_kl=desired_kl)
            self.adam.step(torch.where(finite, grad * scale, 0.0), learning_rate=self.learning_rate)
            return torch.cat([figures, norm[None], ~finite[None]])

    @torch.no_grad()
    def _roll_back(self, before: Tensor) -> Tensor:
        """Undo the update if it left a parameter that is not finite, and halve the step size. Shape: ()."""
        healthy = self.flat.isfinite().all()
        self.flat.copy_(torch.where(healthy, self.flat, before))
        for moment in (self.adam.mean, self.adam.square):
            moment.copy_(torch.where(healthy, moment, 0.0))
        self.learning_rate.mul_(torch.where(healthy, 1.0, 0.5))
        return (~healthy).float()

    def _adapt(self, approx_kl: Tensor, *, desired_kl: Tensor) -> None:
        """Steer the step size so that an update moves the policy by about `desired_kl`, as rsl_rl does."""
        cfg, rate = self.cfg, self.learning_rate
        factor = torch.where(approx_kl > 2.0 * desired_kl, 1 / 1.5, 1.0)
        # Below 0 there is rounding only, as in the first step of every update: no reason to go faster.
        factor = torch.where((approx_kl < 0.5 * desired_kl) & (approx_kl >= 0.0), 1.5, factor)
        rate.copy_((rate * factor).clamp(cfg.min_learning_rate, cfg.max_learning_rate))


def _explained_variance(values: Tensor, returns: Tensor, live: Tensor) -> Tensor:
    """Return the share of the live returns' variance that the values predicted. Shapes: (T, N) -> ()."""
    columns = torch.stack([returns.flatten(), (returns - values).flatten()], -1)
    _, (total, rest), _ = moments(columns, live.flatten())
    return 1.0 - rest / total.clamp(min=1e-8)


def _flatten_parameters(parameters: list[nn.Parameter]) -> Tensor:
    """Move all parameters into one tensor, of which they become views. Shape: (sum of their sizes,)."""
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    views = flat.split([parameter.numel() for parameter in parameters])
    for parameter, view in zip(parameters, views, strict=True):
        parameter.data = view.view_as(parameter)
    return flat
