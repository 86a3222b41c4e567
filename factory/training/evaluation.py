"""Deterministic evaluation on fixed seeds.

Every environment runs whole episodes, as many as the others, so that short episodes do not weigh more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from factory.energy.uncertainty import student_t
from factory.envs.core.outcomes import FALL, SUCCESS, TIMEOUT
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
    outcomes: dict[str, float]
    """Share of each outcome; they add up to 1."""
    success_rate: float
    """Share of episodes that succeeded; NaN if the task does not define success."""
    fall_rate: float
    """Share of episodes that ended in a fall; NaN if the task does not define falls."""
    task: dict[str, float]
    """Metrics of the task's own, such as tracking errors, and means of its metrics of episodes."""
    tokens: int
    """Control tokens executed; counted apart from training."""
    table: dict[str, torch.Tensor]
    """A row for each episode, by round and environment: `return`, `length`, `outcome` (an index of the
    environment's `outcome_names`), and its metrics, NaN where one does not apply. Shapes: (episodes,).
    """

    def metrics(self) -> dict[str, float]:
        """Return the metrics under their `eval/` keys, without those that are NaN."""
        optional = {
            "eval/return_std": self.return_std,
            "eval/return_ci95": self.return_ci95,
            "eval/success_rate": self.success_rate,
            "eval/fall_rate": self.fall_rate,
        }
        own = {f"eval/{name}": value for name, value in self.task.items()}
        outcomes = {f"eval/outcome/{name}": share for name, share in self.outcomes.items()}
        return own | {
            "eval/return_mean": self.return_mean,
            **{key: value for key, value in optional.items() if not math.isnan(value)},
            **outcomes,
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
    table = {name: torch.cat([rows[name] for rows, _ in played]) for name in played[0][0]}
    sums: dict[str, float] = {}
    for _, diagnostics in played:
        for name, value in diagnostics.items():
            sums[name] = sums.get(name, 0.0) + value
    # Every episode counts once, whatever its length; diagnostics are means over steps.
    returns = table["return"]
    steps = float(table["length"].sum())
    std, half_width = _spread(returns)
    names = env.outcome_names
    counts = torch.bincount(table["outcome"], minlength=len(names)).tolist()
    outcomes = env.outcome_shares(dict(zip(names, counts, strict=True)))
    own = env.eval_metrics({name: value / steps for name, value in sums.items()})
    means = {name: float(table[name].nanmean()) for name in env.episode_metrics}
    return EvaluationResult(
        episodes=returns.numel(),
        return_mean=float(returns.mean()),
        return_std=std,
        return_ci95=half_width,
        length_mean=float(table["length"].mean()),
        outcomes=outcomes,
        success_rate=_rate(outcomes, SUCCESS, defined=env.defines_success),
        fall_rate=_rate(outcomes, FALL, defined=env.defines_fall),
        task=own | {name: mean for name, mean in means.items() if not math.isnan(mean)},
        tokens=int(steps),
        table=table,
    )


def _rate(outcomes: dict[str, float], name: str, *, defined: bool) -> float:
    """Return the share of an outcome, or NaN if the task does not define it."""
    if defined:
        return outcomes[name]
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
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Play one episode in every world; return a row of `EvaluationResult.table` a world, and step sums."""
    obs = groups(env.reset(seed=seed)[0])
    state = policy.initial_state(env.num_envs)
    # Worlds that finished their episode go on in the batch, but count no more.
    playing = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    rows = {
        "return": torch.zeros(env.num_envs, device=env.device),
        "length": torch.zeros(env.num_envs, device=env.device),
        "outcome": torch.full_like(playing, env.outcome_names.index(TIMEOUT), dtype=torch.int64),
    }
    rows |= {name: torch.full_like(rows["return"], math.nan) for name in env.episode_metrics}
    sums: dict[str, torch.Tensor] = {}
    for step in range(env.max_episode_steps):
        on_progress(step / env.max_episode_steps)
        action, state = policy.act_deterministic(obs, state)
        raw, reward, terminated, truncated, info = env.step(action)
        obs = groups(raw)
        rows["return"] += reward * playing
        rows["length"] += playing
        ended = (terminated | truncated) & playing
        rows["outcome"] = torch.where(ended, info["outcome"], rows["outcome"])
        for name in env.episode_metrics:
            rows[name] = torch.where(ended, info["episode_metrics"][name], rows[name])
        for name, value in info.get("diagnostics", {}).items():
            sums[name] = sums.get(name, torch.zeros((), device=env.device)) + (value * playing).sum()
        playing &= ~ended
        if not playing.any():
            break
    step_sums = {name: float(value) for name, value in sums.items()}
    return {name: row.cpu() for name, row in rows.items()}, step_sums
