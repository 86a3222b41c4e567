"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from factory.learners.adam import Adam
from factory.learners.base import Learner
from factory.learners.gradient import Samples, make_gradient
from factory.learners.ppo_config import PpoConfig
from factory.learners.rollout import Rollout, advantages, bootstrap_values, discard_unsound
from factory.policies.base import ActorCritic
from factory.policies.normalizer import moments
from factory.runtime import distributed
from factory.runtime.graphs import Launcher, eager

_STEP_RESULTS = ("policy", "value", "entropy", "approx_kl", "clip_fraction", "grad_norm", "skipped")
"""Results of `Ppo._gradient_step`, in this order."""
_RECOVERY = 1.05
"""Growth of a cut step size with every update that lasts: 15 of them make up for one cut."""


class Ppo(Learner):
    """Clipped-surrogate PPO with an adaptive step size, all of it on the device."""

    def __init__(
        self, cfg: PpoConfig, policy: ActorCritic, *, generator: torch.Generator, launcher: Launcher = eager
    ) -> None:
        """Prepare the optimizer.

        Args:
            cfg: hyperparameters.
            policy: the actor-critic to improve.
            generator: source of the minibatch permutations, on the policy's device.
            launcher: how an update is launched; other than `eager`, every update must be given the same
                rollout.
        """
        self.cfg = cfg
        self.policy = policy
        self.generator = generator
        self.parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        self.flat = _flatten_parameters(self.parameters)
        on = self.flat.device
        self.learning_rate = torch.tensor(cfg.learning_rate, device=on)
        # 1, less after an update that had to be undone.
        self._step_scale = torch.ones((), device=on)
        self.adam = Adam(self.flat)
        self._gradient = make_gradient(
            policy,
            self.parameters,
            self.flat,
            clip_coef=cfg.clip_coef,
            value_coef=cfg.value_coef,
            entropy_coef=cfg.entropy_coef,
        )
        self._remaining = torch.ones((), device=on)
        self._launcher = launcher
        self._launch: Callable[[], tuple[Tensor, Tensor, Tensor]] | None = None

    def update(self, rollout: Rollout, *, progress: float = 0.0) -> dict[str, Tensor]:
        """Improve the policy on one rollout; then take its observations into the normaliser.

        Args:
            rollout: T steps of N environments, collected with the policy as it is now.
            progress: share of the run that is done, for schedules that fall over it.
        """
        self._remaining.fill_(max(1.0 - progress, 0.0))
        if self._launch is None or self._launcher is eager:
            self._launch = self._launcher(partial(self._run_epochs, rollout), [self.generator])
        sums, discarded, explained_variance = self._launch()

        gradient_steps = self.cfg.num_epochs * self.cfg.num_minibatches
        means = dict(zip(_STEP_RESULTS, sums / gradient_steps, strict=True))
        processed = self._minibatch_size(rollout) * gradient_steps
        return means | {
            "explained_variance": explained_variance,
            "learning_rate": self.learning_rate.clone(),
            "skipped": sums[_STEP_RESULTS.index("skipped")],
            "gradient_steps": torch.full_like(explained_variance, gradient_steps),
            "discarded": discarded,
            "processed": torch.full_like(explained_variance, processed),
        }

    def cut_step_size(self) -> None:
        """Halve the step size and its upper end, and let Adam's moments start anew.

        Updates that last bring the upper end back, see `_RECOVERY`.
        """
        self.learning_rate.mul_(0.5)
        self._step_scale.mul_(0.5)
        self.adam.restart()

    def _minibatch_size(self, rollout: Rollout) -> int:
        """Return the samples of one gradient step; the remainder of a pass is left out."""
        num_steps, num_envs = rollout.rewards.shape
        if self.policy.is_recurrent:
            return num_envs // self.cfg.num_minibatches * num_steps
        return rollout.num_samples // self.cfg.num_minibatches

    def _run_epochs(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Make all gradient steps of an update.

        Returns:
            Sums of the results of all gradient steps, see `_STEP_RESULTS`; number of samples that were
            unsound; explained variance of the values.
        """
        cfg = self.cfg
        policy = self.policy
        if cfg.schedule == "linear":
            self.learning_rate.copy_(cfg.learning_rate * self._remaining * self._step_scale)
        elif cfg.schedule == "fixed":
            self.learning_rate.copy_(cfg.learning_rate * self._step_scale)
        desired_kl = cfg.desired_kl * torch.ones_like(self._remaining)
        if cfg.schedule == "annealed":
            desired_kl = cfg.desired_kl * self._remaining

        # Advantages and returns, with the critic as it was while the rollout was collected.
        values, next_values, discarded = discard_unsound(rollout, *bootstrap_values(rollout, policy.value))
        gae = advantages(
            rollout.rewards,
            values,
            next_values,
            rollout.terminated,
            rollout.truncated,
            rollout.live,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
        )
        returns = gae + values
        policy.update_returns(returns, rollout.live)

        sums = torch.zeros(len(_STEP_RESULTS), device=gae.device)
        for batch, samples in self._minibatches(rollout, gae, returns):
            sums += self._gradient_step(batch, samples, desired_kl=desired_kl)
        self._step_scale.mul_(_RECOVERY).clamp_(max=1.0)

        # The statistics move last: until here they are those the actions were chosen with.
        policy.update_observations(rollout.obs, rollout.live)
        discarded = distributed.all_reduce_sum_(discarded.float())
        return sums, discarded, _explained_variance(values, returns, rollout.live)

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments and step count, step size and generator."""
        state = {
            "learning_rate": self.learning_rate.clone(),
            "step_scale": self._step_scale.clone(),
            "generator": self.generator.get_state(),
        }
        return state | {f"adam/{name}": value.clone() for name, value in self.adam.state().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`."""
        for name, value in self.adam.state().items():
            value.copy_(state[f"adam/{name}"])
        self.learning_rate.copy_(state["learning_rate"])
        self._step_scale.copy_(state["step_scale"])
        self.generator.set_state(state["generator"].cpu())

    def take_changes(self, changed: Collection[str]) -> None:
        """Start from the step size of the settings if it, or its schedule, is new."""
        if {"learning_rate", "schedule"} & set(changed):
            self.learning_rate.fill_(self.cfg.learning_rate)

    def _minibatches(
        self, rollout: Rollout, gae: Tensor, returns: Tensor
    ) -> Iterator[tuple[dict[str, Tensor], Samples]]:
        """Yield the minibatches of all epochs, shuffled anew in each.

        Samples of a memoryless policy are independent. Those of a recurrent one stay in the order of time:
        its minibatches are the whole rollouts of some environments.

        Args:
            rollout: T steps of N environments.
            gae: advantages, not normalised. Shape: (T, N).
            returns: in return units. Shape: (T, N).
        """
        batch = self.policy.normalize(_own_groups(rollout))
        batch["action"] = rollout.actions
        # One tensor is shuffled faster than five.
        columns = torch.stack(self._samples(rollout, gae, returns))
        if self.policy.is_recurrent:
            dim = 1
            batch["starts"] = rollout.episode_starts
        else:
            dim = 0
            batch = {name: value.flatten(0, 1) for name, value in batch.items()}
            columns = columns.flatten(1)

        num_items = batch["action"].shape[dim]
        size = num_items // self.cfg.num_minibatches
        for _ in range(self.cfg.num_epochs):
            order = torch.randperm(num_items, generator=self.generator, device=gae.device)
            order = order[: size * self.cfg.num_minibatches]
            shuffled = [value.index_select(dim, order).split(size, dim) for value in batch.values()]
            shuffled_columns = columns.index_select(dim + 1, order).split(size, dim + 1)
            if self.policy.is_recurrent:
                states = rollout.initial_state.index_select(0, order).split(size)
            for index, values in enumerate(zip(*shuffled, strict=True)):
                minibatch = dict(zip(batch, values, strict=True))
                if self.policy.is_recurrent:
                    minibatch["state"] = states[index]
                yield minibatch, Samples(*shuffled_columns[index].flatten(1))

    def _samples(self, rollout: Rollout, gae: Tensor, returns: Tensor) -> Samples:
        """Return the numbers of every sample; advantages and returns are normalised. Shapes: (T, N)."""
        mean, var, _ = moments(gae.view(-1, 1), rollout.live.flatten())
        advantage = (gae - mean) / (var.sqrt() + 1e-8)
        # min(r A, clip(r, 1 - c, 1 + c) A) = min(r A, A + c |A|) for every ratio r >= 0
        bound = advantage + self.cfg.clip_coef * advantage.abs()
        value = self.policy.normalize_returns(returns)
        return Samples(
            old_log_prob=rollout.extras["log_prob"],
            advantage=advantage,
            bound=bound,
            target=value,
            live=rollout.live.float(),
        )

    def _gradient_step(self, batch: dict[str, Tensor], samples: Samples, *, desired_kl: Tensor) -> Tensor:
        """Make one gradient step; return its results, see `_STEP_RESULTS`. Shape: (7,)."""
        cfg = self.cfg
        sums = self._gradient(batch, samples)
        with torch.no_grad():
            # Sums over the samples of this process become sums over all processes, in one message, and then
            # means. The last entry is the number of samples.
            means = distributed.all_reduce_sum_(sums)
            means /= means[-1].clamp(min=1.0)
            grad = means[:-6]
            losses = means[-6:-1]

            # Scale a long gradient to `max_grad_norm`; one that is not finite is replaced by zero and
            # counted.
            norm = grad.norm()
            is_finite = norm.isfinite()
            scale = (cfg.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            clipped = torch.where(is_finite, grad * scale, 0.0)

            if cfg.schedule in ("adaptive", "annealed"):
                approx_kl = losses[_STEP_RESULTS.index("approx_kl")]
                self._adapt(approx_kl, desired_kl=desired_kl)
            self.adam.step(clipped, learning_rate=self.learning_rate)
            return torch.cat([losses, norm[None], ~is_finite[None]])

    def _adapt(self, approx_kl: Tensor, *, desired_kl: Tensor) -> None:
        """Steer the step size so that an update moves the policy by about `desired_kl`, as rsl_rl does."""
        cfg = self.cfg
        factor = torch.where(approx_kl > 2.0 * desired_kl, 1 / 1.5, 1.0)
        # A negative estimate is rounding, as in the first step of every update, and no reason to go faster.
        is_small = (approx_kl < 0.5 * desired_kl) & (approx_kl >= 0.0)
        factor = torch.where(is_small, 1.5, factor)
        rate = (self.learning_rate * factor).clamp(min=cfg.min_learning_rate)
        self.learning_rate.copy_(rate.minimum(cfg.max_learning_rate * self._step_scale))


def _own_groups(rollout: Rollout) -> dict[str, Tensor]:
    """Return the observation groups, without `critic` where it is the group `policy` itself."""
    obs = dict(rollout.obs)
    if obs["critic"] is obs["policy"]:
        del obs["critic"]
    return obs


def _explained_variance(values: Tensor, returns: Tensor, live: Tensor) -> Tensor:
    """Return the share of the live returns' variance that the values predicted. Shapes: (T, N) -> ()."""
    # 1 - Var(return - value) / Var(return)
    errors = returns - values
    columns = torch.stack([returns.flatten(), errors.flatten()], -1)
    _, variances, _ = moments(columns, live.flatten())
    total, unexplained = variances
    return 1.0 - unexplained / total.clamp(min=1e-8)


def _flatten_parameters(parameters: list[nn.Parameter]) -> Tensor:
    """Move all parameters into one tensor, of which they become views. Shape: (sum of their sizes,)."""
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    views = flat.split([parameter.numel() for parameter in parameters])
    for parameter, view in zip(parameters, views, strict=True):
        parameter.data = view.view_as(parameter)
    return flat
