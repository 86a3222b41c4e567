"""Physics engines behind one protocol: `mujoco` (CPU) now, `warp` (CUDA) beside it."""

from __future__ import annotations

import mujoco
import torch

from envs.physics.base import Physics

ENGINES = ("mujoco",)
"""Names accepted by `open_physics`."""


def open_physics(
    name: str, model: mujoco.MjModel, *, num_envs: int, device: torch.device, num_threads: int = 0
) -> Physics:
    """Open the engine called `name` with `num_envs` copies of `model`.

    Raises:
        ValueError: the engine is unknown or does not run on `device`.
    """
    if name not in ENGINES:
        raise ValueError(f"physics={name}: unknown engine; choose one of {', '.join(ENGINES)}")
    from envs.physics.mujoco import MujocoPhysics

    return MujocoPhysics(model, num_envs=num_envs, device=device, num_threads=num_threads)
