"""Physics engines behind one protocol: `mujoco` on the CPU, `warp` on a GPU. Importing this loads neither.

`none` stands for tasks that torch alone simulates (`factory.envs.core.episode_env`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from factory.envs.physics.config import ENGINES as ENGINES
from factory.envs.physics.config import PhysicsConfig as PhysicsConfig

if TYPE_CHECKING:
    import mujoco
    import torch

    from factory.envs.physics.base import Physics


def open_physics(
    physics: str | PhysicsConfig,
    model: mujoco.MjModel,
    *,
    num_envs: int,
    device: torch.device,
    num_threads: int = 0,
) -> Physics:
    """Open an engine with `num_envs` copies of `model`.

    Args:
        physics: the engine's name, or all of its settings.
        model: the robot in its scene.
        num_envs: worlds.
        device: where tensors live.
        num_threads: see `PhysicsConfig`; for an engine given by name, or by settings that leave it open.

    Raises:
        ValueError: the engine is unknown, not installed, or does not run on `device` or with `model`.
    """
    cfg = PhysicsConfig.of(physics, num_threads=num_threads).one_of(ENGINES)
    if cfg.name == "mujoco":
        from factory.envs.physics.mujoco import MujocoPhysics

        return MujocoPhysics(model, num_envs=num_envs, device=device, num_threads=cfg.num_threads)
    try:
        from factory.envs.physics.warp import WarpPhysics
    except ModuleNotFoundError as error:
        remedy = "pip install 'robot-factory[gpu]' (in a checkout: pip install -e '.[gpu]')"
        raise ValueError(f"physics=warp: {error.name} is not installed; {remedy}") from error
    return WarpPhysics(model, num_envs=num_envs, device=device, nconmax=cfg.nconmax, njmax=cfg.njmax)
