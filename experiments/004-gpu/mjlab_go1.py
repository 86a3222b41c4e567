"""Training speed of mjlab on its Go1 flat task, with mjlab's own versions: shares nothing with `run.py`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict
from importlib import metadata
from typing import Any

os.environ.setdefault("MUJOCO_GL", "disable")  # nothing is drawn

TASK = "Mjlab-Velocity-Flat-Unitree-Go1"


def main() -> None:
    """Time every cell `mjlab worlds=N`; print a line of JSON for each."""
    parser = argparse.ArgumentParser()
    for name in ("--device", "--physics"):
        parser.add_argument(name)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", nargs="+")
    args = parser.parse_args()
    for cell in args.cells:
        size = int(cell.split("=")[-1])
        found = measure(
            max(4, size // 512) if args.quick else size, device=args.device, rounds=1 if args.quick else 5
        )
        print("CELL " + json.dumps({"cell": cell, "found": found}), flush=True)


def measure(num_envs: int, *, device: str, rounds: int) -> dict[str, Any]:
    """Train for some iterations after two of warm-up, with mjlab's own configuration of the task."""
    import mjlab.tasks  # noqa: F401  which registers them
    import torch
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
    from mjlab.tasks.registry import load_env_cfg, load_rl_cfg
    from mjlab.utils.torch import configure_torch_backends

    configure_torch_backends()
    env_cfg, agent = load_env_cfg(TASK), load_rl_cfg(TASK)
    env_cfg.scene.num_envs = num_envs
    env = RslRlVecEnvWrapper(ManagerBasedRlEnv(cfg=env_cfg, device=device), clip_actions=agent.clip_actions)
    runner = MjlabOnPolicyRunner(env, asdict(agent), None, device)
    runner.learn(2, init_at_random_ep_len=True)
    speeds = []
    for _ in range(rounds):
        begin_s = time.perf_counter()
        runner.learn(2)
        if device == "cuda":
            torch.cuda.synchronize()
        speeds.append(2 * num_envs * agent.num_steps_per_env / (time.perf_counter() - begin_s))
    env.close()
    versions = {
        name: metadata.version(name) for name in ("mujoco", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch")
    }
    return {
        "steps_per_s": statistics.median(speeds),
        "samples": speeds,
        "task": TASK,
        "mjlab": metadata.version("mjlab"),
        "versions": versions,
        "physics_steps_per_control_step": env_cfg.decimation,
        "num_steps": agent.num_steps_per_env,
        "network": list(agent.actor.hidden_dims),
    }


if __name__ == "__main__":
    main()
