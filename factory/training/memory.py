"""Memory that a job will need, estimated before any of it is allocated."""

from __future__ import annotations

import psutil
import torch

from factory.config import TrainConfig
from factory.energy.cgroup import Cgroup
from factory.envs.core.training_env import TrainingEnv
from factory.policies.base import Policy
from factory.runtime import ranks
from factory.training.collector import groups

_FLOAT_BYTES = 4
_SAMPLE_NUMBERS = 16
"""Numbers of a sample besides observations and action: rewards, values, flags, and copies of them."""
_STATE_COPIES = 3
"""The engine's state of a world, its derived values, and temporary copies."""
_WEIGHT_COPIES = 6
"""Weights, gradient, two moments of Adam, and the last good copy of weights and moments."""


def per_environment(cfg: TrainConfig, env: TrainingEnv, policy: Policy) -> int:
    """Return the bytes that an environment and its part of a rollout take, a lower estimate.

    Args:
        cfg: the job.
        env: its environment, with any number of worlds.
        policy: its policy.
    """
    raw, _ = env.reset()
    obs = groups(raw)
    distinct = {id(group): group.shape[-1] for group in obs.values()}
    action_size = max(1, env.action_space.sample()[0].size)

    # Rollout: observations before and after a step. Update: normalised ones, and those in shuffled order.
    numbers = 4 * sum(distinct.values()) + 2 * action_size + _SAMPLE_NUMBERS + policy.token_spec.act_dim
    rollout = cfg.learner.num_steps * numbers * _FLOAT_BYTES
    rows = [value for value in env.state_dict().values() if value.dim() and len(value) == env.num_envs]
    world = sum(value.nbytes for value in rows) // env.num_envs
    return rollout + _STATE_COPIES * world


def check(cfg: TrainConfig, env: TrainingEnv, policy: Policy) -> None:
    """Raise ValueError when a job needs more memory than there is, with the number that fits.

    Args:
        cfg: the job.
        env: its environment, with any number of worlds.
        policy: its policy.
    """
    each = per_environment(cfg, env, policy)
    weights = _WEIGHT_COPIES * sum(parameter.nbytes for parameter in policy.parameters())
    free = free_bytes(cfg.device)
    # The processes of one host share its memory, while each has a GPU of its own.
    on_host = cfg.num_envs
    if cfg.device == "cuda":
        on_host = cfg.num_envs // ranks.size()
    needed = on_host * each + weights
    if needed <= free:
        return
    fitting = max(0, free - weights) // each * (cfg.num_envs // on_host)
    remedy = "lower learner.num_steps or the sizes of the networks"
    if fitting:
        remedy = f"at most {fitting} fit, more with a lower learner.num_steps={cfg.learner.num_steps}"
    raise ValueError(
        f"num_envs={cfg.num_envs}: environments, rollout and networks need about {needed / 1e9:.3g} GB, and"
        f" {free / 1e9:.3g} GB of memory are free; {remedy}"
    )


def free_bytes(device: str) -> int:
    """Return the free memory of `cuda`, or of this host within the limit of the control group."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = psutil.virtual_memory().available
    limit = Cgroup().memory_limit_bytes()
    if limit:
        free = min(free, int(limit) - psutil.Process().memory_info().rss)
    return free
