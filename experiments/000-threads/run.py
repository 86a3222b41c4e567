"""Time a PPO update and an action for the spin count in GOMP_SPINCOUNT: `GOMP_SPINCOUNT=3000 python run.py`."""

from __future__ import annotations

import os
import time

import torch

import factory  # noqa: F401  sets the wait policy before torch is loaded
from factory.learners.ppo import Ppo, PpoConfig
from factory.policies.mlp import MlpPolicy, MlpPolicyConfig
from factory.rollout import Rollout

T, N, OBS, CRITIC_OBS, ACTIONS = 16, 1024, 47, 58, 12


def synthetic_rollout() -> Rollout:
    """Return random numbers in the shapes of the quadruped task."""
    normal = lambda *size: torch.randn(T, N, *size)  # noqa: E731
    never = torch.zeros(T, N, dtype=torch.bool)
    return Rollout(
        obs={"policy": normal(OBS), "critic": normal(CRITIC_OBS)}, actions=normal(ACTIONS),
        log_probs=torch.full((T, N), -10.0), values=normal(), next_values=normal(), rewards=normal(),
        terminated=never, truncated=never, live=~never,
    )  # fmt: skip


def main() -> None:
    """Print milliseconds of an update and of an action."""
    generator = torch.Generator().manual_seed(0)
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[64, 64], critic_hidden=[64, 64]),
        obs_size=OBS, critic_obs_size=CRITIC_OBS, action_size=ACTIONS, control_hz=50.0, generator=generator,
    )  # fmt: skip
    learner = Ppo(PpoConfig(num_epochs=3, num_minibatches=4), policy, generator=torch.Generator().manual_seed(1))
    rollout = synthetic_rollout()
    obs, state = {name: value[0] for name, value in rollout.obs.items()}, policy.initial_state(N)
    update_ms = milliseconds(lambda: learner.update(rollout), warmup=2, repeats=5)
    action_ms = milliseconds(lambda: policy.act(obs, state), warmup=5, repeats=50)
    print(f"spin {os.environ['GOMP_SPINCOUNT']}: update {update_ms:.1f} ms, action {action_ms:.2f} ms")


def milliseconds(call, *, warmup: int, repeats: int) -> float:  # noqa: ANN001
    """Return the mean time of `call` [ms]."""
    for _ in range(warmup):
        call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats * 1e3


if __name__ == "__main__":
    main()
