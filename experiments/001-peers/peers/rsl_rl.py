"""PPO of rsl_rl with its own runner, in this project's batched environment."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import gymnasium
from peers.serving import Measure, serve
from peers.training import training
from rsl_rl.runners import OnPolicyRunner

from factory.envs.adapters.rsl_rl import RslRlVecEnv

NUM_ENVS, NUM_STEPS = 1024, 24


def settings(hidden: list[int]) -> dict[str, Any]:
    """Return the runner's configuration; what is not named is rsl_rl's default."""
    network = {
        "class_name": "MLPModel",
        "hidden_dims": hidden,
        "activation": "tanh",
        "obs_normalization": True,
    }
    noise = {"class_name": "GaussianDistribution", "init_std": 0.6, "std_type": "log"}
    return {
        "num_steps_per_env": NUM_STEPS,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": network | {"distribution_cfg": noise},
        "critic": network,
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 5,
            "num_mini_batches": 4,
            "entropy_coef": 0.0,
        },
    }


def build(task: str, hidden: list[int]) -> Measure:
    """Make environment and runner; there is no log folder, so nothing is written."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    env = gymnasium.make_vec(f"factory.envs:factory/{task}", num_envs=NUM_ENVS, num_threads=threads, seed=0)
    runner = OnPolicyRunner(RslRlVecEnv(env), settings(hidden))
    runner.learn(1, init_at_random_ep_len=True)

    def iterate() -> int:
        runner.learn(1)
        return NUM_ENVS * NUM_STEPS

    return training(iterate, trials=3)


if __name__ == "__main__":
    networks = ([64, 64], [512, 256, 128])
    serve({f"train HalfCheetah-v5 {hidden}": partial(build, "HalfCheetah-v5", hidden) for hidden in networks})
