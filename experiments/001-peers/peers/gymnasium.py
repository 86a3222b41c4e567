"""Gymnasium's own vector environments: of 16 worlds, and in turn of as many as this project steps."""

from __future__ import annotations

from functools import partial

import gymnasium
from peers.serving import Measure, serve
from peers.stepping import stepping

FEW, MANY = 16, 1024


def build(task: str, mode: str, num_envs: int) -> Measure:
    """Make the environment in `mode`, sync or async."""
    env = gymnasium.make_vec(task, num_envs=num_envs, vectorization_mode=mode)
    return stepping(env, env.single_action_space, num_envs)


if __name__ == "__main__":
    tasks, kinds = ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5"), (("sync", FEW), ("async", FEW), ("sync", MANY))
    serve({f"{mode} {num} {task}": partial(build, task, mode, num) for task in tasks for mode, num in kinds})
