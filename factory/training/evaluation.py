"""Deterministic evaluation on fixed seeds.

Every environment runs whole episodes, as many as the others, so that short episodes do not weigh more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from factory.energy.uncertainty import student_t
from factory.envs.core.training_env import TrainingEnv
from factory.policies.base import Controller
from factory.training.collector import groups


@dataclass(kw_only=True)
class EvaluationResult:
    """Statistics over episodes of the deterministic policy."""

    episodes: int
    return_mean: float
    return_std: float
    """Standard deviation of the episodes; NaN of a single one."""
    return_ci95: float
    """Half-width of the 95 % interval of the mean (Student's t); NaN of a single episode."""
    length_mean: float
    success_rate: float
    """Share of episodes that succeeded; NaN if the task does not define success."""
    fall_rate: float
    """Share of episodes that ended in a terminal state instead of the time limit; NaN if that is not a fall.
    """
    task: dict[str, float]
    """Metrics of the task's own, such as tracking errors."""
    tokens: int
    """Control tokens executed; counted apart from training."""

    def metrics(self) -> dict[str, float]:
        """Return the metrics under their `eval/` keys, without those that are NaN."""
        optional = {
            "eval/return_std": self.return_std,
            "eval/return_ci95": self.return_ci95,
            "eval/success_rate": self.success_rate,
            "eval/fall_rate": self.fall_rate,
        }
        own = {f"eval/{name}": value for name, value in self.task.items()}
        return own | {
            "eval/return_mean": self.return_mean,
            **{key: value for key, value in optional.items() if not math.isnan(value)},
            "eval/episode_length_mean": self.length_mean,
            "eval/episodes": float(self.episodes),
        }


def evaluate(
    env: TrainingEnv,
    policy: Controller,
    *,
    episodes: int,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
) -> EvaluationResult:
    """Run at least `episodes` episodes, one per environment and round, and average over them.

    Args:
        env: SAME_STEP vector environment.
        policy: policy to evaluate, with its deterministic actions, or a baseline.
        episodes: number of episodes, rounded up to a multiple of `env.num_envs`.
        seed: seed of the environment, so that equal policies see equal episodes.
        on_progress: called with the finished share from time to time, not with 1 if episodes end early.
    """
    # Every environment plays the same number of episodes: taking the first ones to end would favour short
    # episodes.
    rounds = math.ceil(episodes / env.num_envs)
    played = []
    for index in range(rounds):

        def report(share: float, done: int = index) -> None:
            on_progress((done + share) / rounds)

        # A seed for each round, or all rounds would repeat the same episodes.
        played.append(_play_round(env, policy, seed=seed + index, on_progress=report))
    per_episode = torch.cat([episode for episode, _ in played], -1)
    sums: dict[str, float] = {}
    for _, diagnostics in played:
        for name, value in diagnostics.items():
            sums[name] = sums.get(name, 0.0) + value
    returns, lengths, success, fallen = per_episode
    steps = float(lengths.sum())
    std, half_width = _spread(returns)
    return EvaluationResult(
        episodes=returns.numel(),
        return_mean=float(returns.mean()),
        return_std=std,
        return_ci95=half_width,
        length_mean=float(lengths.mean()),
        success_rate=_rate(success, defined=env.defines_success),
        fall_rate=_rate(fallen, defined=env.defines_fall),
        task=env.eval_metrics({name: value / steps for name, value in sums.items()}),
        tokens=int(steps),
    )


def _rate(flags: torch.Tensor, *, defined: bool) -> float:
    """Return the share of flagged episodes, or NaN if the task does not define the flag."""
    if defined:
        return float(flags.mean())
    return math.nan


def _spread(returns: torch.Tensor) -> tuple[float, float]:
    """Return the standard deviation and the half-width of the mean's 95 % interval.

    NaN of a single return.
    """
    count = returns.numel()
    if count < 2:
        return math.nan, math.nan
    # The mean has the standard error s / sqrt(n); with few episodes, t widens it for the uncertain s.
    std = float(returns.std(correction=1))
    return std, student_t(count - 1) * std / math.sqrt(count)


@torch.no_grad()
def _play_round(
    env: TrainingEnv, policy: Controller, *, seed: int, on_progress: Callable[[float], None]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Play one episode in every world; return (return, length, success, fallen) x worlds, and step sums."""
    obs = groups(env.reset(seed=seed)[0])
    state = policy.initial_state(env.num_envs)
    # Worlds that finished their episode go on in the batch, but count no more.
    playing = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    totals = torch.zeros(4, env.num_envs, device=env.device)
    sums: dict[str, torch.Tensor] = {}
    for step in range(env.max_episode_steps):
        on_progress(step / env.max_episode_steps)
        action, state = policy.act_deterministic(obs, state)
        raw, reward, terminated, truncated, info = env.step(action)
        obs = groups(raw)
        if "success" in info:
            success = info["success"].float()
        else:
            success = torch.zeros_like(reward)
        ended = ((terminated | truncated) & playing).float()
        totals += torch.stack([reward * playing, playing.float(), success * ended, terminated * ended])
        for name, value in info.get("diagnostics", {}).items():
            sums[name] = sums.get(name, torch.zeros((), device=env.device)) + (value * playing).sum()
        playing &= ~(terminated | truncated)
        if not playing.any():
            break
    return totals.cpu(), {name: float(value) for name, value in sums.items()}
