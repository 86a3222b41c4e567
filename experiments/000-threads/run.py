"""Time an update, and an action and a step's arithmetic after a pause, as physics makes one: `python run.py`.

GOMP_SPINCOUNT sets the spin count: `GOMP_SPINCOUNT=3000 python run.py`.
"""

from __future__ import annotations

import os
import statistics
import time

import gymnasium
import torch

import factory  # noqa: F401  sets the wait policy before torch is loaded
from factory.learners.ppo import Ppo
from factory.learners.ppo_config import PpoConfig
from factory.learners.rollout import Rollout
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig
from factory.runtime import device

T, N, OBS, CRITIC_OBS, ACTIONS = 16, 1024, 47, 58, 12


def synthetic_rollout() -> Rollout:
    """Return random numbers in the shapes of the quadruped task."""
    normal = lambda *size: torch.randn(T, N, *size)  # noqa: E731
    never = torch.zeros(T, N, dtype=torch.bool)
    return Rollout(
        obs={"policy": normal(OBS), "critic": normal(CRITIC_OBS)},
        actions=normal(ACTIONS),
        log_probs=torch.full((T, N), -10.0),
        values=normal(),
        next_values=normal(),
        rewards=normal(),
        terminated=never,
        truncated=never,
        live=~never,
    )


def main() -> None:
    """Print milliseconds of an update and of an action."""
    generator = torch.Generator().manual_seed(0)
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[64, 64], critic_hidden=[64, 64]),
        obs_size=OBS,
        critic_obs_size=CRITIC_OBS,
        action_space=gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,)),
        control_hz=50.0,
        generator=generator,
    )
    learner = Ppo(
        PpoConfig(num_epochs=3, num_minibatches=4), policy, generator=torch.Generator().manual_seed(1)
    )
    rollout = synthetic_rollout()
    obs, state = {name: value[0] for name, value in rollout.obs.items()}, policy.initial_state(N)
    update_ms = milliseconds(lambda: learner.update(rollout), warmup=2, repeats=5)
    print(f"spin {os.environ['GOMP_SPINCOUNT']}: update {update_ms:.1f} ms")
    for threads in range(1, torch.get_num_threads() + 1):
        with device.torch_threads(threads):
            action_ms = milliseconds(lambda: policy.act(obs, state), warmup=5, repeats=200, pause_s=0.004)
            arithmetic_ms = milliseconds(
                lambda: arithmetic(obs["critic"]), warmup=5, repeats=200, pause_s=0.004
            )
        print(
            f"  {threads} threads after a pause: action {action_ms:.2f} ms, arithmetic {arithmetic_ms:.2f} ms"
        )


def arithmetic(value: torch.Tensor) -> None:
    """Do twenty cheap operations on an observation of every world, as an environment's step does."""
    for _ in range(20):
        value = value * 0.5 + 1.0


def milliseconds(call, *, warmup: int, repeats: int, pause_s: float = 0.0) -> float:  # noqa: ANN001
    """Return the median time of `call`, each after a pause [ms]."""
    for _ in range(warmup):
        call()
    times = []
    for _ in range(repeats):
        time.sleep(pause_s)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
