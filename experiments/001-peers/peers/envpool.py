"""EnvPool in its synchronous mode, 1024 worlds."""

from __future__ import annotations

import os
from functools import partial

import envpool
from peers.serving import Measure, serve
from peers.stepping import stepping

NUM_ENVS = 1024


def build(task: str) -> Measure:
    """Make the pool."""
    env = envpool.make(
        task, env_type="gymnasium", num_envs=NUM_ENVS, num_threads=int(os.environ["OMP_NUM_THREADS"])
    )
    return stepping(env, env.action_space, NUM_ENVS)


if __name__ == "__main__":
    serve({f"step {task}": partial(build, task) for task in ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5")})
