"""Gymnasium's own vector environments, 16 worlds."""

from __future__ import annotations

from functools import partial

import gymnasium
from peers.serving import Measure, serve
from peers.stepping import stepping

NUM_ENVS = 16


def build(task: str, mode: str) -> Measure:
    """Make the environment in `mode`, sync or async."""
    env = gymnasium.make_vec(task, num_envs=NUM_ENVS, vectorization_mode=mode)
    return stepping(env, env.single_action_space, NUM_ENVS)


if __name__ == "__main__":
    tasks, modes = ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5"), ("sync", "async")
    serve({f"{mode} {task}": partial(build, task, mode) for task in tasks for mode in modes})
