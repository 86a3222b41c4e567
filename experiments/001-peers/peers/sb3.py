"""PPO of stable-baselines3 by default: 64-64 networks, 2048 steps, 10 epochs, minibatches of 64; 8 worlds."""

from __future__ import annotations

from functools import partial

from peers.serving import Measure, serve
from peers.training import training
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

NUM_ENVS = 8


def build(task: str) -> Measure:
    """Make the learner; a measurement is one iteration at least, whatever the seconds."""
    model = PPO("MlpPolicy", make_vec_env(task, n_envs=NUM_ENVS, seed=0), device="cpu", seed=0)
    steps = NUM_ENVS * model.n_steps

    def iterate() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return training(iterate, trials=1)


if __name__ == "__main__":
    serve({f"train {task}": partial(build, task) for task in ("HalfCheetah-v5", "Ant-v5")})
